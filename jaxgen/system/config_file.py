"""Studies as files: what flags can say, a file of JSON or YAML can say, and the other way round.

A file holds the names of flags without the dashes in front, and with ``_`` for those inside:
``num_seeds: 5``. It is read as the words of a command line, so that one parser checks and explains
both.
"""

import argparse
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json

SUFFIXES = (".json", ".yaml", ".yml")


def words_of(
    path: Path, flags: Mapping[str, argparse.Action], without: Collection[str] = ()
) -> list[str]:
    """Read a file as the words of a command line.

    Args:
      path: of JSON or YAML.
      flags: what may be set, by name.
      without: names that are left out, as something else excludes them.

    Raises:
      BadInput: the file cannot be read, sets something else, or has a value that no flag takes.
    """
    words = []
    for name, value in _content(path).items():
        if name not in flags:
            raise BadInput(f"{path}: unknown key {name!r}; allowed: {', '.join(flags)}")
        if name not in without:
            words += _words(path, name, flags[name], value)
    return words


def text_of(args: argparse.Namespace, flags: Mapping[str, argparse.Action]) -> str:
    """The JSON of a command line; as a file it asks for the same."""
    values = {name: _plain(getattr(args, action.dest)) for name, action in flags.items()}
    given = {name: value for name, value in values.items() if value not in (None, [])}
    return json.dumps(given, indent=2)


def flags_of(
    groups: Iterable[argparse._ArgumentGroup], without: Sequence[str] = ()
) -> dict[str, argparse.Action]:
    """The flags of some groups of a parser by the names that they have in a file."""
    actions = [action for group in groups for action in group._group_actions]
    return {
        action.dest: action for action in actions
        if action.help != argparse.SUPPRESS and action.dest not in without
    }  # fmt: skip


def _content(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"{path} is not allowed; name a file that ends in {', '.join(SUFFIXES)}")
    try:
        content = load_json(path) if path.suffix.lower() == ".json" else _load_yaml(path)
    except DamagedFile as damage:
        raise BadInput(str(damage)) from damage
    if not isinstance(content, dict):
        raise BadInput(f"{path} is not allowed; write one KEY: VALUE a line")
    return content


def _load_yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise BadInput(f"{path} needs the package pyyaml; install it, or write JSON") from None
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _words(path: Path, name: str, action: argparse.Action, value: Any) -> list[str]:
    flag = next(text for text in action.option_strings if text.startswith("--"))
    if value is None:
        return []
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise BadInput(f"{path}: {name} = {value!r} is not allowed; use true or false")
        negative = [text for text in action.option_strings if text.startswith("--no-")]
        return [flag] if value else negative[:1]
    if isinstance(value, dict):
        value = [f"{key}={_text(each)}" for key, each in value.items()]
    texts = [_text(each) for each in (value if isinstance(value, list) else [value])]
    # A single one as one word, so that a negative number is no flag.
    return [f"{flag}={texts[0]}"] if len(texts) == 1 else [flag, *texts] if texts else []


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    return str(value) if isinstance(value, Path) else value

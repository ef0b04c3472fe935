"""A search for hyper-parameters as data: spaces, trials, and what a finished search recommends."""

from collections.abc import Sequence
from pathlib import Path

from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json

BEST = "best_params"
"""The entry of a results.json that holds the best trial's hyper-parameters."""


def best_settings(path: Path, given: Sequence[str] = ()) -> list[str]:
    """The best hyper-parameters of a finished search as ``FIELD=VALUE`` words.

    Args:
      path: its results.json.
      given: words of the same kind, whose fields are left out.

    Raises:
      BadInput: the file cannot be read, or is none of a search.
    """
    try:
        content = load_json(path)
    except (OSError, DamagedFile) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    best = content.get(BEST)
    if not isinstance(best, dict):
        raise BadInput(f"{path} has no {BEST}; give the results.json of a search by tune.py")
    fields = {word.partition("=")[0] for word in given}
    return [f"{field}={_text(value)}" for field, value in best.items() if field not in fields]


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)

"""Arms: a technique, and the hyper-parameters that are other ones than the preset's.

In words: ``gar``, or ``gar@hidden=32x32@learning_rate=0.001``, where a tuple is joined by ``x``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

from jaxgen.study.config import Config, check_keys
from jaxgen.system.errors import BadInput
from jaxgen.techniques import canonical_name

Value = bool | int | float | str | tuple[int, ...]
_TRUTH = {"true": True, "false": False}


class Arm(NamedTuple):
    """A technique with hyper-parameters of its own: the unit of comparison within a place."""

    technique: str
    """Canonical name."""
    overrides: tuple[tuple[str, Value], ...] = ()
    """Field of the configuration and its value, in the order of the fields."""

    @property
    def name(self) -> str:
        """The arm in words; `parse_arm` reads them."""
        return arm_name(self.technique, dict(self.overrides))


def arm_name(technique: str, overrides: Mapping[str, Any]) -> str:
    """The name of an arm, from its technique and its overrides as values or as JSON has them."""
    return "@".join([technique, *(f"{key}={_text(value)}" for key, value in overrides.items())])


def without_overrides(name: str) -> str:
    """The part of a name before its overrides: a technique, or an algorithm in a report."""
    return name.partition("@")[0]


def technique_of(name: str) -> str:
    """The technique in an arm's name."""
    return without_overrides(name)


def overrides_of(name: str) -> str:
    """The overrides in an arm's name, each behind its @; "" where there are none."""
    return name[len(technique_of(name)) :]


def parse_arm(name: str, config: type[Config]) -> Arm:
    """The arm that a name means for an algorithm with this class of configurations.

    Raises:
      BadInput: an unknown technique, a field that the configuration has not, one that is given
        twice, or a value that is not of the field's type.
    """
    technique, *words = name.split("@")
    pairs = [_split(word, name) for word in words]
    values = dict(pairs)
    if len(values) < len(pairs):
        raise BadInput(f"arm {name!r} sets a hyper-parameter twice; set each once")
    check_keys(config, values)
    kinds = get_type_hints(config)
    overrides = [
        (field.name, _value(config, field.name, values[field.name], kinds[field.name]))
        for field in dataclasses.fields(config)
        if field.name in values
    ]
    return Arm(canonical_name(technique), tuple(overrides))


def is_possible(name: str, config: type[Config]) -> bool:
    """Whether a configuration has all fields that an arm sets."""
    fields = {field.name for field in dataclasses.fields(config)}
    return {_split(word, name)[0] for word in name.split("@")[1:]} <= fields


def _split(word: str, name: str) -> tuple[str, str]:
    key, sign, text = word.partition("=")
    if not (key and sign and text):
        raise BadInput(
            f"arm {name!r} has {word!r} behind an @; write FIELD=VALUE, as in "
            "gar@learning_rate=0.001"
        )
    return key, text


def _value(config: type[Config], key: str, text: str, kind: Any) -> Value:
    try:
        if kind is bool:
            return _TRUTH[text]
        if kind == tuple[int, ...]:
            return tuple(int(part) for part in text.split("x"))
        return kind(text)
    except (KeyError, ValueError):
        allowed = {
            bool: "true or false", int: "a whole number", float: "a number",
        }.get(kind, "whole numbers joined by x, as in 32x32")  # fmt: skip
        raise BadInput(
            f"{config.algorithm}: {key} = {text!r} is not allowed; use {allowed}"
        ) from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)

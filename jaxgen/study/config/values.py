"""Configurations as values that JSON has, and values by name as configurations."""

import dataclasses
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_type_hints

from jaxgen.study.config.base import Config
from jaxgen.system.errors import BadInput
from jaxgen.system.values import as_python, number, whole


def float_fields(cls: type[Config]) -> tuple[str, ...]:
    """Fields that may differ between the lanes of one compiled program; the others are static."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.type in (float, "float"))


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as JSON-ready values, without `Config.added` ones that are the default."""
    values = dataclasses.asdict(config)
    added = {name for cls in type(config).__mro__ for name in vars(cls).get("added", ())}
    for field in dataclasses.fields(config):
        if field.name in added and values[field.name] == field.default:
            del values[field.name]
    return json_ready(values)


def json_ready(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of fields as JSON has them: a tuple is a list."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def replace(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Override fields by name; ValueError names an unknown key or a value of the wrong type."""
    return dataclasses.replace(config, **_converted(type(config), overrides))


def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """The configuration that `to_dict` made the values of.

    Fields that are missing have the defaults of the class. Errors as in `replace`; BadInput names
    missing ones without a default.
    """
    missing = [
        field.name for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise BadInput(f"{cls.algorithm}: a configuration lacks {', '.join(missing)}")
    return cls(**_converted(cls, values))


def check_keys(cls: type[Config], keys: Iterable[str]) -> None:
    """Raise BadInput, which says what is allowed, for a key that is no field."""
    allowed = [field.name for field in dataclasses.fields(cls)]
    for key in keys:
        if key not in allowed:
            close = get_close_matches(str(key), allowed, 1)
            meant = f", perhaps {close[0]}" if close else ""
            raise BadInput(
                f"{cls.algorithm}: unknown configuration key {key!r}{meant}; "
                f"allowed: {', '.join(allowed)}"
            )


def _converted(cls: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    check_keys(cls, values)
    return {key: _convert(cls.algorithm, key, value, hints[key]) for key, value in values.items()}


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def _convert(algorithm: str, key: str, given: Any, kind: Any) -> Any:
    value = as_python(given)
    if kind in (int, float):
        value = whole(value) if kind is int else number(value)
    if kind in _KINDS and isinstance(value, kind):
        return value
    if kind == tuple[int, ...] and isinstance(value, list | tuple):
        return tuple(_convert(algorithm, key, item, int) for item in value)
    raise BadInput(
        f"{algorithm}: {key} = {given!r} is not {_KINDS.get(kind, 'a list of whole numbers')}"
    )

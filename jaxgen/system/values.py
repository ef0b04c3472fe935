"""Values as people give them, of Python, NumPy, JAX, pandas or JSON, as Python has them."""

import math
from collections.abc import Iterable
from typing import Any

from jaxgen.system.errors import BadInput


def as_python(value: Any) -> Any:
    """A scalar or an array of another package in Python's types; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def number(value: Any) -> float | None:
    """A number of any type; None: it is none."""
    value = as_python(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def whole(value: Any) -> int | None:
    """A whole number of any type, 1e5 among them; None: it is none."""
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def at_least(least: int, name: str, value: Any) -> int:
    """A whole number; BadInput, which begins with ``name``: it is none, or a lower one."""
    converted = whole(value)
    if converted is None or converted < least:
        raise BadInput(
            f"{name} = {value!r} is not allowed; use a whole number, {least} or larger"
        )
    return converted


def items(name: str, values: Any) -> list[Any]:
    """The items of a sequence, a set or an array; BadInput: it is a single value or a text."""
    values = as_python(values)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise BadInput(f"{name} = {values!r} is not allowed; give a list, as in [{values!r}]")
    return list(values)


def numbers(name: str, values: Any) -> tuple[float, ...]:
    """Several numbers; BadInput, which begins with ``name``: one of them is none."""
    converted = []
    for value in items(name, values):
        single = number(value)
        if single is None:
            raise BadInput(f"{name} with {value!r} is not allowed; use a list of numbers")
        converted.append(single)
    return tuple(converted)


def ends(
    name: str, low: Any, high: Any, most: float = math.inf
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper ends of ranges, each at most so wide; BadInput, which begins with ``name``:
    there are none, not as many of both, or a range is negative, too wide or not a number."""
    low, high = numbers(name, low), numbers(name, high)
    widths = [upper - lower for lower, upper in zip(low, high)]
    if len(low) != len(high) or not low or not all(0 <= width <= most for width in widths):
        raise BadInput(
            f"{name}(low={low}, high={high}) is not allowed; use as many lower as upper ends, low "
            f"<= high{', all finite' if most < math.inf else ''}"
        )
    return low, high

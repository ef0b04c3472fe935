"""Values of NumPy, JAX and JSON as Python's."""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.system.errors import BadInput
from jaxgen.system.values import at_least, ends, items, number, numbers, whole

WHOLE = [3, 3.0, np.int8(3), np.uint64(3), np.float32(3), np.array(3), jnp.int32(3)]
NONE = [True, np.bool_(True), "3", None, [3], np.array([3]), Fraction(3), 3j]


@pytest.mark.parametrize("value", WHOLE)
def test_whole_numbers_of_any_type(value):
    for converted in (whole(value), number(value), at_least(3, "n", value)):
        assert converted == 3 and type(converted) in (int, float)
    assert type(whole(value)) is int and type(number(value)) is float


@pytest.mark.parametrize("value", [*NONE, 2.5, float("nan"), float("inf"), np.float32(0.1)])
def test_what_is_no_whole_number(value):
    assert whole(value) is None
    with pytest.raises(BadInput, match="n = .* is not allowed; use a whole number, 0 or larger"):
        at_least(0, "n", value)


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_number(value):
    assert number(value) is None


def test_a_large_whole_number_is_exact():
    assert whole(2**63 + 1) == 2**63 + 1 and whole(np.uint64(2**63 + 1)) == 2**63 + 1


@pytest.mark.parametrize(
    "values", [[1, 2], (1, 2), {1, 2}, np.array([1, 2]), jnp.array([1, 2]), range(1, 3)]
)
def test_items_of_anything_that_has_some(values):
    assert items("seeds", values) == [1, 2]
    assert numbers("levels", values) == (1.0, 2.0)


@pytest.mark.parametrize("values", [1, "12", np.array(1), None, 0.5])
def test_a_single_value_is_no_list(values):
    with pytest.raises(BadInput, match=r"levels = .* is not allowed; give a list, as in \["):
        numbers("levels", values)


REFUSED: list[tuple[Any, ...]] = [
    ((), ()), ((0,), (1, 2)), ((1,), (0,)), ((float("nan"),), (1,)), ((0,), (float("nan"),)),
]  # fmt: skip


@pytest.mark.parametrize("low, high", REFUSED)
def test_ends_that_are_none(low, high):
    with pytest.raises(BadInput, match=r"box\(low=.*\) is not allowed; use as many"):
        ends("box", low, high)


def test_ends_may_have_a_widest_range():
    assert ends("box", [0], [float("inf")]) == ((0.0,), (float("inf"),))
    assert ends("box", [0], [2], most=2) == ((0.0,), (2.0,))
    with pytest.raises(BadInput, match="all finite"):
        ends("box", [0], [3], most=2)

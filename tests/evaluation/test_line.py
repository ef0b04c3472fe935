"""Lines between parameter vectors: values that follow by hand."""

import numpy as np
import pytest

from jaxgen.evaluation.line import along, barrier

ALPHAS = (0.0, 0.25, 0.5, 1.0)


def test_points_lie_on_their_line_and_ends_are_exact():
    """Between (0, 8) and (4, 0): a quarter of the way is (1, 6), half is (2, 4)."""
    rng = np.random.default_rng(0)
    other = rng.normal(size=(2, 2)).astype(np.float32)
    pairs = np.stack([np.array([[0, 8], [4, 0]], np.float32), other])
    line = along(pairs, ALPHAS)
    assert line.shape == (2 * 4, 2) and line.dtype == np.float32
    np.testing.assert_array_equal(line[:4], [[0, 8], [1, 6], [2, 4], [4, 0]])
    np.testing.assert_array_equal(line[[4, 7]], other)


def test_a_barrier_is_the_largest_fall_below_the_line():
    """Ends of mean 10 and 20 promise 12.5 at a quarter and 15 at half. Level 0: 12 and 9 are .5
    and 6 below; level 1: both above, so 0. The second line's ends are swapped."""
    means = np.array([[10, 10], [12, 13], [9, 99], [20, 20]], np.float32)
    returns = means[..., None] + np.array([-1, 1], np.float32)
    lines = np.stack([returns, returns[::-1]])
    # Backwards a quarter lies where half was: it promises 17.5, and 9 is 8.5 below; half: 12 is 3.
    np.testing.assert_array_equal(barrier(lines, ALPHAS), [[6, 0], [8.5, 2]])


def test_a_level_of_nan_has_no_barrier_and_the_other_does():
    returns = np.zeros((1, 2, 2, 3), np.float32)
    returns[0, 1, 0, 2] = np.nan
    np.testing.assert_array_equal(barrier(returns, (0, 1)), [[np.nan, 0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: along(np.zeros((2, 3)), ALPHAS),
        lambda: along(np.zeros((1, 3, 2)), ALPHAS),
        lambda: barrier(np.zeros((1, 4, 2)), ALPHAS),
        lambda: barrier(np.zeros((1, 3, 2, 5)), ALPHAS),
        lambda: barrier(np.zeros((1, 3, 2, 5)), (0, 0.5, 0.9)),
    ],
)
def test_other_shapes_and_lines_without_ends_are_refused(call):
    with pytest.raises(ValueError, match="not allowed"):
        call()

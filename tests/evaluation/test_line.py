"""Lines between parameter vectors: values that follow by hand."""

from typing import Any

import numpy as np
import pytest

from jaxgen.evaluation.connectivity.line import along, barrier, measure_falls

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


def test_between_equal_ends_every_point_is_the_end_bit_by_bit():
    """A sum of shares alone would round some of 1 000 numbers to others."""
    one = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    line = along(np.stack([one, one])[None], np.linspace(0, 1, 101).tolist())
    np.testing.assert_array_equal(line, np.tile(one, (101, 1)))
    share = np.float32(0.1)
    assert ((1 - share) * one + share * one != one).any()


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


FINE = tuple(np.linspace(0, 1, 21).tolist())


def lines_of(value: Any, noise: float = 0.0, num_episodes: int = 8, num_lines: int = 1) -> Any:
    """Returns ``[P, 21, 1, E]`` of a function of alpha."""
    mean = np.asarray([value(alpha) for alpha in FINE])[None, :, None, None]
    random = np.random.default_rng(0)
    return mean + noise * random.normal(size=(num_lines, len(FINE), 1, num_episodes))


def test_a_return_between_two_hills_has_a_barrier_of_one():
    """J(w) = -(w^2 - 1)^2 from w = -1 to 1: 0 at both ends and -1 in the middle. The area is the
    integral of ((2 a - 1)^2 - 1)^2, 8/15."""
    falls = measure_falls(lines_of(lambda a: -(((2 * a - 1) ** 2 - 1) ** 2)), FINE)
    for name in ("barrier", "barrier_mean", "valley", "middle"):
        assert getattr(falls, name)[0, 0] == pytest.approx(1), name
    assert falls.area[0, 0] == pytest.approx(8 / 15, abs=2e-3)
    assert falls.standard_error[0, 0] == 0


def test_a_hill_has_none():
    falls = measure_falls(lines_of(lambda a: -((a - 0.4) ** 2)), FINE)
    assert falls.barrier[0, 0] == 0 and falls.area[0, 0] < 0 and falls.valley[0, 0] == 0


def test_a_straight_line_between_unequal_ends_falls_below_their_mean_alone():
    """From 0 to 10: the mean is 5, and the lower end is 5 below it."""
    falls = measure_falls(lines_of(lambda a: 10 * a), FINE)
    assert falls.barrier_mean[0, 0] == pytest.approx(5)
    for name in ("barrier", "valley", "area", "middle"):
        assert getattr(falls, name)[0, 0] == pytest.approx(0, abs=1e-12), name


def test_a_straight_line_has_no_barrier_on_average_whatever_the_noise():
    """The largest of 21 noisy falls is far above 0; that of the other half is not."""
    lines = lines_of(lambda a: 0.0, noise=1.0, num_episodes=16, num_lines=2000)
    falls = measure_falls(lines, FINE)
    # Where the worst is an end its fall is 0: the rest has mean 0.
    assert abs(falls.barrier.mean()) < 4 * falls.barrier.std() / np.sqrt(2000)
    assert abs(falls.valley.mean()) < 0.05 < 0.4 < barrier(lines, FINE).mean()
    assert falls.standard_error.mean() == pytest.approx(falls.barrier.std(), rel=0.1)


@pytest.mark.parametrize(
    ("alphas", "num_episodes"), [((0, 0.4, 1), 8), ((0, 0.5, 1), 3), ((1, 0.5, 0), 8)]
)
def test_falls_need_a_middle_an_order_and_halves(alphas, num_episodes):
    with pytest.raises(ValueError, match="use alphas that increase, with 0, .5 and 1 among them"):
        measure_falls(np.zeros((1, 3, 1, num_episodes)), alphas)

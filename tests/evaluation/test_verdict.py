"""Verdicts on connectivity: words that follow from intervals, and how often they are wrong."""

import numpy as np
import pytest

from jaxgen.evaluation.connectivity.line import measure_falls
from jaxgen.evaluation.connectivity.verdict import (
    judge,
    judge_pair,
    learned,
    null_floor,
    null_lines,
)

ALPHAS = tuple(np.linspace(0, 1, 21).tolist())


@pytest.mark.parametrize(
    ("barriers", "word"),
    [
        # Of 4 values t is 3.182: .01 +- .0143, .3 +- .178, .1 +- .159.
        ([0.0, 0.01, 0.02, 0.01], "connected"),
        ([0.2, 0.3, 0.45, 0.25], "not connected"),
        ([0.0, 0.2, 0.0, 0.2], "undecided"),
        ([0.3], "undecided"),
        ([], "did not learn"),
    ],
)
def test_words_follow_from_the_interval(barriers, word):
    assert judge(barriers).word == word
    assert judge(barriers).num == len(barriers)


def test_an_interval_is_students_and_the_floor_counts():
    """Of 1, 2, 3: 2 +- 4.303 / sqrt 3; a barrier above 0 but not above the floor is undecided."""
    found = judge([1.0, 2.0, 3.0])
    assert found.estimate == 2
    assert found.high == pytest.approx(2 + 4.3027 / 3**0.5, rel=1e-4)
    values = [0.2, 0.21, 0.22, 0.2]
    assert judge(values).word == "not connected"
    assert judge(values, floor=0.3).word == "undecided"
    # There, but too small to count.
    assert judge([0.01, 0.011, 0.01, 0.011]).word == "connected"


def test_what_did_not_learn_has_an_end_at_random_play():
    ends = np.array([[[10.0, 12], [0, 2]], [[10, 12], [9, 11]]])
    np.testing.assert_array_equal(learned(ends, 0.5), [False, True])


def lines(num: int, depth: float, seed: int = 0, num_episodes: int = 32) -> np.ndarray:
    """Lines with a valley of so much in their middle, noise of 1 that points share but for .3."""
    random = np.random.default_rng(seed)
    alphas = np.asarray(ALPHAS)[None, :, None, None]
    common = random.normal(size=(num, 1, 1, num_episodes))
    own = 0.3 * random.normal(size=(num, len(ALPHAS), 1, num_episodes))
    return 10 - depth * (1 - np.abs(2 * alphas - 1)) + common + own


def test_pairs_without_a_barrier_are_rarely_called_apart():
    """Of 400 straight lines at most 5 %; of lines with a barrier of .2 nearly all."""
    scale = 10.0
    for depth, least, most in ((0.0, 0.0, 0.05), (2.0, 0.95, 1.0)):
        falls = measure_falls(lines(400, depth), ALPHAS)
        words = [judge_pair(falls, pair, 0, scale, 32).word for pair in range(400)]
        share = words.count("not connected") / len(words)
        assert least <= share <= most
    assert words.count("connected") == 0


def test_null_lines_are_one_policy_on_other_episodes():
    """Their floor is what one in twenty exceeds."""
    random = np.random.default_rng(1)
    returns = random.normal(size=(2, 21 * 8))
    made = null_lines(returns, 21)
    assert made.shape == (1, 21, 2, 8)
    np.testing.assert_array_equal(made[0, 3, 1], returns[1, 24:32])
    with pytest.raises(ValueError, match="167 episodes are not allowed for lines of 21 points"):
        null_lines(returns[:, 1:], 21)
    many = random.normal(size=(300, 1, 21 * 8))
    barriers = np.array([
        measure_falls(null_lines(each, 21), ALPHAS).barrier[0, 0] for each in many
    ])  # fmt: skip
    floor = null_floor(barriers)
    assert (barriers > floor).mean() == pytest.approx(0.05, abs=0.005) and floor > 0
    assert null_floor(-np.ones(3)) == 0

"""Whether two forks are linearly connected, as far as the data say.

A barrier is measured in the scale of the task, from random play to the ceiling: a share of the
returns themselves would change its sign with theirs. It means something only between policies that
learned. The unit of a study is the parent: forks of one parent, alphas and episodes are repeated
measures of it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from jaxgen.evaluation.connectivity.line import Falls
from jaxgen.evaluation.statistics import half_width

MARGIN = 0.05
"""The share of the scale below which a barrier counts as none."""
MIN_ERRORS = 3.0
"""Standard errors by which both ends must be above random play."""
LEVEL = 0.95

Word = Literal["connected", "not connected", "undecided", "did not learn"]


class Verdict(NamedTuple):
    """Judgement of a sample of barriers, in shares of the scale."""

    word: Word
    estimate: float | None
    low: float | None
    high: float | None
    """Ends of the interval of the mean; null where there are fewer than two."""
    num: int
    """Values that it is of."""


def learned(returns: np.ndarray, floor: float) -> np.ndarray:
    """Whether both ends of lines are above random play.

    Args:
      returns: of the ends, ``[P, 2, E]``.
      floor: mean return of random play.

    Returns:
      bool ``[P]``.
    """
    error = returns.std(-1, ddof=1) / np.sqrt(returns.shape[-1])
    return (returns.mean(-1) - floor > MIN_ERRORS * error).all(-1)


def judge(barriers: Sequence[float], floor: float = 0.0, margin: float = MARGIN) -> Verdict:
    """Judge barriers of independent parents, in shares of the scale.

    Connected: the interval of the mean ends below the margin. Not connected: it begins above the
    floor, the barrier that pairs have which are no pairs. An interval that does both is of a
    barrier that is there, and too small to count.

    Args:
      barriers: one for each parent; without any, nothing has learned.
      floor: see `null_floor`.
      margin: the largest barrier that counts as none.
    """
    values = np.asarray(barriers, np.float64)
    if not values.size:
        return Verdict("did not learn", None, None, None, 0)
    estimate = float(values.mean())
    if values.size < 2:
        return Verdict("undecided", estimate, None, None, 1)
    return _verdict(estimate, half_width(values, LEVEL), floor, margin, values.size)


def judge_pair(
    falls: Falls, pair: int, level: int, scale: float, num_episodes: int, floor: float = 0.0,
    margin: float = MARGIN,
) -> Verdict:
    """Judge a single pair at a level by the error over its episodes.

    Args:
      falls: of its line, among others.
      pair: its position there.
      level: position of the level.
      scale: ceiling less random play at this level.
      num_episodes: E.
      floor: as in `judge`.
      margin: as in `judge`.
    """
    estimate = float(falls.barrier[pair, level]) / scale
    # Each half of the episodes has a mean of its own.
    quantile = float(stats.t.ppf(0.5 + LEVEL / 2, num_episodes - 2))
    half = quantile * float(falls.standard_error[pair, level]) / scale
    return _verdict(estimate, half, floor, margin, num_episodes)


def null_floor(barriers: np.ndarray) -> float:
    """The barrier, in shares of the scale, that is exceeded by one null pair in twenty, or 0.

    Args:
      barriers: of lines whose points are one policy on episodes of their own, ``[P]``.
    """
    return max(0.0, float(np.quantile(barriers, LEVEL)))


def null_lines(returns: np.ndarray, num_points: int) -> np.ndarray:
    """Make lines of a policy and itself, each point on other episodes: an upper bound of the noise,
    as the points of a real line share their episodes.

    Args:
      returns: of the policy, ``[K, M]``, M a multiple of ``num_points``.
      num_points: A, of a line.

    Returns:
      ``[1, A, K, M / A]``.
    """
    num_levels, num_episodes = returns.shape
    if num_episodes % num_points:
        raise ValueError(
            f"{num_episodes} episodes are not allowed for lines of {num_points} points; use a "
            "multiple"
        )
    apart = returns.reshape(num_levels, num_points, -1)
    return np.moveaxis(apart, 1, 0)[None]


def _verdict(estimate: float, half: float, floor: float, margin: float, num: int) -> Verdict:
    low, high = estimate - half, estimate + half
    word: Word = "undecided"
    if high < margin:
        word = "connected"
    elif low > floor:
        word = "not connected"
    return Verdict(word, estimate, low, high, num)

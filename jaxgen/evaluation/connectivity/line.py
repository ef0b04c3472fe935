"""Straight lines between parameter vectors, and what lies between their ends.

Two networks are linearly connected if every policy on the line between their vectors is worth
what the line between their returns promises (Frankle et al. 2020, arXiv 1912.05671; with the
line in place of the mean of the ends, Entezari et al. 2022, arXiv 2110.06296). numpy only.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


def along(pairs: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Take vectors on the lines between pairs.

    Args:
      pairs: the ends, float32 ``[P, 2, D]``.
      alphas: shares of the second end, ``[A]``; 0 and 1 give the ends bit by bit, as does each
        share between equal ends.

    Returns:
      float32 ``[P * A, D]``, the alphas of the first pair first.
    """
    _check_rank("pairs", pairs, 3)
    if pairs.shape[1] != 2:
        raise ValueError(f"pairs of shape {pairs.shape} are not allowed; use [P, 2, D]")
    share = np.asarray(alphas, np.float32)[:, None]
    first, second = pairs[:, None, 0], pairs[:, None, 1]
    # A sum of shares, not first + share * (second - first), which misses the second end; of two
    # equal numbers it may round to another one.
    mixed = np.where(first == second, first, (1 - share) * first + share * second)
    return mixed.reshape(-1, pairs.shape[2])


def barrier(returns: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Measure by how much the worst policy on a line falls below the line between the ends.

    Args:
      returns: ``[P, A, K, E]`` of the vectors that `along` made.
      alphas: those that were given to `along`, with 0 and 1 among them.

    Returns:
      The largest loss of mean return over the alphas, float64 ``[P, K]``; 0 where no policy is
      below the line, NaN where a return is.
    """
    share = _checked_alphas(returns, alphas)
    mean = returns.mean(-1, dtype=np.float64)
    first, second = (mean[:, share == end][:, :1] for end in (0.0, 1.0))
    straight = (1 - share[:, None]) * first + share[:, None] * second
    return (straight - mean).max(1)


class Falls(NamedTuple):
    """Measures of how far the policies on lines fall short, float64 ``[P, K]`` each.

    Where a measure is of the worst policy, that is chosen on half of the episodes and measured on
    the other half, and both ways are averaged: the largest of many noisy falls would be too large.
    So a line that is straight has a mean of 0, and may come out below.
    """

    barrier: np.ndarray
    """The worst fall below the straight line between the ends' returns."""
    standard_error: np.ndarray
    """Of the barrier, over episodes."""
    barrier_mean: np.ndarray
    """The worst fall below the mean of the ends' returns (Frankle et al. 2020)."""
    valley: np.ndarray
    """The worst fall below the lower end."""
    area: np.ndarray
    """The mean fall below the straight line, over alphas."""
    middle: np.ndarray
    """The fall below it halfway."""


def measure_falls(returns: np.ndarray, alphas: Sequence[float]) -> Falls:
    """Measure lines of policies that played the same episodes.

    Args:
      returns: ``[P, A, K, E]`` of the vectors that `along` made, E at least 4: an episode is the
        same for all policies on a line.
      alphas: those that were given to `along`, increasing, with 0, .5 and 1 among them.

    Returns:
      The measures; NaN where a return is.
    """
    share = _checked_alphas(returns, alphas)
    if 0.5 not in share or np.any(np.diff(share) <= 0) or returns.shape[3] < 4:
        raise ValueError(
            f"alphas {list(alphas)} and {returns.shape[3]} episodes are not allowed; use alphas "
            "that increase, with 0, .5 and 1 among them, and 4 episodes or more"
        )
    returns = returns.astype(np.float64)
    first, second = returns[:, :1], returns[:, -1:]
    weight = share[:, None, None]
    straight = (1 - weight) * first + weight * second
    fall = straight - returns
    mean_fall = fall.mean(-1)
    barrier, error = _of_the_worst(fall, lambda half: half.mean(-1).argmax(1))
    mean_of_ends = (first + second) / 2 - returns
    barrier_mean, _ = _of_the_worst(mean_of_ends, lambda half: half.mean(-1).argmax(1))
    return Falls(
        barrier, error, barrier_mean, _valley(returns),
        np.trapezoid(mean_fall, share, axis=1), mean_fall[:, share == 0.5][:, 0],
    )


Choose = Callable[[np.ndarray], np.ndarray]
"""Values ``[P, A, K, E]`` of half of the episodes -> indices of alphas ``[P, K]``."""


def _of_the_worst(values: np.ndarray, choose: Choose) -> tuple[np.ndarray, np.ndarray]:
    """The mean at what the other half of the episodes chooses, of both ways; its error."""
    halves = values[..., ::2], values[..., 1::2]
    found = [_at(half, choose(other)) for half, other in (halves, halves[::-1])]
    errors = [part.std(-1, ddof=1) / np.sqrt(part.shape[-1]) for part in found]
    mean = (found[0].mean(-1) + found[1].mean(-1)) / 2
    return mean, np.hypot(*errors) / 2


def _at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values ``[P, A, K, E]`` at an alpha of each pair and level ``[P, K]`` -> ``[P, K, E]``."""
    return np.take_along_axis(values, index[:, None, :, None], axis=1)[:, 0]


def _valley(returns: np.ndarray) -> np.ndarray:
    """The lower end and the worst policy are chosen on one half, their difference measured on the
    other."""
    halves = returns[..., ::2], returns[..., 1::2]
    found = []
    for half, other in (halves, halves[::-1]):
        mean = other.mean(-1)
        lower = np.where(mean[:, 0] <= mean[:, -1], 0, mean.shape[1] - 1)
        found.append((_at(half, lower) - _at(half, mean.argmin(1))).mean(-1))
    return (found[0] + found[1]) / 2


def _checked_alphas(returns: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    _check_rank("returns", returns, 4)
    share = np.asarray(alphas, np.float64)
    if len(share) != returns.shape[1] or not {0.0, 1.0} <= set(share.tolist()):
        raise ValueError(
            f"alphas {list(alphas)} are not allowed for returns of shape {returns.shape}; use as "
            "many as there are vectors in a line, with 0 and 1 among them"
        )
    return share


def _check_rank(name: str, values: np.ndarray, rank: int) -> None:
    if np.ndim(values) != rank:
        raise ValueError(f"{name} of shape {np.shape(values)} are not allowed; use {rank} axes")

"""Straight lines between parameter vectors, and what lies between their ends.

Two networks are linearly connected if every policy on the line between their vectors is worth
what the line between their returns promises (Frankle et al. 2020, arXiv 1912.05671; with the
line in place of the mean of the ends, Entezari et al. 2022, arXiv 2110.06296). numpy only.
"""

from collections.abc import Sequence

import numpy as np


def along(pairs: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Take vectors on the lines between pairs.

    Args:
      pairs: the ends, float32 ``[P, 2, D]``.
      alphas: shares of the second end, ``[A]``; 0 and 1 give the ends bit by bit.

    Returns:
      float32 ``[P * A, D]``, the alphas of the first pair first.
    """
    _check_rank("pairs", pairs, 3)
    if pairs.shape[1] != 2:
        raise ValueError(f"pairs of shape {pairs.shape} are not allowed; use [P, 2, D]")
    share = np.asarray(alphas, np.float32)[:, None]
    first, second = pairs[:, None, 0], pairs[:, None, 1]
    # A sum of shares, not first + share * (second - first), which misses the second end.
    return ((1 - share) * first + share * second).reshape(-1, pairs.shape[2])


def barrier(returns: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Measure by how much the worst policy on a line falls below the line between the ends.

    Args:
      returns: ``[P, A, K, E]`` of the vectors that `along` made.
      alphas: those that were given to `along`, with 0 and 1 among them.

    Returns:
      The largest loss of mean return over the alphas, float64 ``[P, K]``; 0 where no policy is
      below the line, NaN where a return is.
    """
    _check_rank("returns", returns, 4)
    share = np.asarray(alphas, np.float64)
    if len(share) != returns.shape[1] or not {0.0, 1.0} <= set(share.tolist()):
        raise ValueError(
            f"alphas {list(alphas)} are not allowed for returns of shape {returns.shape}; use as "
            "many as there are vectors in a line, with 0 and 1 among them"
        )
    mean = returns.mean(-1, dtype=np.float64)
    first, second = (mean[:, share == end][:, :1] for end in (0.0, 1.0))
    straight = (1 - share[:, None]) * first + share[:, None] * second
    return (straight - mean).max(1)


def _check_rank(name: str, values: np.ndarray, rank: int) -> None:
    if np.ndim(values) != rank:
        raise ValueError(f"{name} of shape {np.shape(values)} are not allowed; use {rank} axes")

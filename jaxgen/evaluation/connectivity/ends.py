"""Parameter vectors as ends of lines: their layers, their statistics, and what controls make of
them.

All is numpy. What says where the numbers of a vector belong is a function that makes a tree of it,
see `jaxgen.algorithms.base.Algorithm.unravel`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.evaluation.connectivity import alignment
from jaxgen.evaluation.connectivity.line import along
from jaxgen.types import PyTree

Unravel = Callable[[Any], Any]
"""Vector ``[D]`` -> `jaxgen.nn.networks.Variables`."""


def whole_line(unravel: Unravel | None, pair: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Take vectors between two ends; running moments are those of a mixture of both ends' data.

    Args:
      unravel: what tells parts of a vector apart; None: all are weights.
      pair: the ends, float32 ``[2, D]``.
      alphas: shares of the second end, ``[A]``; 0 and 1 give the ends bit by bit.

    Returns:
      float32 ``[A, D]``.
    """
    points = along(pair[None], alphas)
    moments: Any = () if unravel is None else _places(unravel, pair.shape[1]).statistics
    if not hasattr(moments, "variance"):
        return points
    share = np.asarray(alphas, np.float64)[:, None]
    apart = pair[0, moments.mean].astype(np.float64) - pair[1, moments.mean]
    points[:, moments.variance] += (share * (1 - share) * apart**2).astype(np.float32)
    return points


def layer_lines(
    unravel: Unravel, pair: np.ndarray, alphas: Sequence[float]
) -> Iterator[tuple[str, np.ndarray]]:
    """Take vectors of which one layer alone is between two ends; all else is the first end's.

    Args:
      unravel: what tells layers apart.
      pair: the ends, float32 ``[2, D]``.
      alphas: shares of the second end, ``[A]``.

    Yields:
      The name of a layer, but of those that judge alone, and float32 ``[A, D]``.
    """
    points = along(pair[None], alphas)
    for name, places in _layers(_places(unravel, pair.shape[1]).trained):
        line = np.repeat(pair[:1], len(points), 0)
        line[:, places] = points[:, places]
        yield name, line


def aligned_to(unravel: Unravel, first: np.ndarray, second: np.ndarray, odd: bool) -> np.ndarray:
    """Turn the second vector into one that computes the same, see `alignment.aligned`.

    Raises:
      ValueError: there are layers that cannot be aligned.
    """
    return _with_trained(
        unravel, second, alignment.aligned(unravel(first).trained, unravel(second).trained, odd)
    )


def permuted(unravel: Unravel, vector: np.ndarray, odd: bool, seed: int) -> np.ndarray:
    """Put hidden units into a random order: a vector that computes the same.

    Raises:
      ValueError: there are layers whose order is not free.
    """
    return _with_trained(
        unravel, vector, alignment.shuffled(unravel(vector).trained, odd, seed)
    )


def in_a_random_direction(first: np.ndarray, second: np.ndarray, seed: int) -> np.ndarray:
    """A vector as far from the first as the second is."""
    direction = np.random.default_rng(seed).normal(size=len(first))
    length = np.linalg.norm(second.astype(np.float64) - first) / np.linalg.norm(direction)
    return (first + length * direction).astype(np.float32)


def _places(unravel: Unravel, size: int) -> Any:
    """The positions in a vector, as a tree."""
    return unravel(np.arange(size))


def _layers(tree: Any, before: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Names of dense layers and the places of their numbers."""
    if not isinstance(tree, Mapping):
        return
    for name, below in tree.items():
        if name == "critic":
            continue
        if name.startswith("Dense_"):
            yield f"{before}{name}", np.concatenate([np.ravel(leaf) for leaf in below.values()])
        else:
            yield from _layers(below, f"{before}{name}.")


def _with_trained(unravel: Unravel, vector: np.ndarray, trained: PyTree) -> np.ndarray:
    """Put trees of numbers back into a copy of a vector."""
    result = vector.copy()
    _fill(result, _places(unravel, len(vector)).trained, trained)
    return result


def _fill(vector: np.ndarray, places: Any, values: Any) -> None:
    if isinstance(places, Mapping):
        for name in places:
            _fill(vector, places[name], values[name])
    else:
        vector[places] = values

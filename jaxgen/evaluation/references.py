"""The fixed evaluation episodes of an environment, with their floor and ceiling."""

from typing import NamedTuple

import numpy as np

from jaxgen.evaluation.returns import means_by_kind, standard_error
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.study.spec import Evaluation
from jaxgen.types import Array, EpisodeKinds, HostTask, Task


class References(NamedTuple):
    """The fixed evaluation episodes of an environment with their floor and ceiling."""

    suite: Suite
    floor: np.ndarray
    """Mean return of the uniform random policy at each level, float64 ``[K]``."""
    floor_standard_error: np.ndarray
    ceiling: np.ndarray
    """Mean best return that the same episodes allow, float64 ``[K]``."""
    prints: Array | None
    """Fingerprints of the evaluation instances, uint32 ``[K, E]``; None: nothing generated."""
    kinds: EpisodeKinds | None = None
    """Kinds of the episodes, where a level mixes some."""
    kind_floor: np.ndarray | None = None
    """Mean return of the uniform random policy by level and kind, float64 ``[K, kinds]``; NaN where
    a level has none of a kind."""


def make_references(task: Task | HostTask, evaluation: Evaluation, key: Array) -> References:
    """Lay out the evaluation episodes and measure what random and best play reach there."""
    suite = make_suite(task, key, evaluation.levels, evaluation.episodes)
    random = suite.random().astype(np.float64)
    ceiling, prints, kinds = suite.known()
    kind_floor = None if kinds is None else means_by_kind(kinds, random)
    return References(
        suite, random.mean(1), standard_error(random), ceiling.mean(1), prints, kinds, kind_floor
    )

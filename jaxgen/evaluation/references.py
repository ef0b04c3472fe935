"""The fixed evaluation episodes of an environment, with their floor and ceiling."""

from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.episodes import make_suite, random_returns
from jaxgen.evaluation.host_episodes import make_host_suite, random_host_returns
from jaxgen.evaluation.returns import means_by_kind, standard_error
from jaxgen.study.spec import Evaluation
from jaxgen.types import Array, EpisodeKinds, HostTask, Task, is_host


class References(NamedTuple):
    """The fixed evaluation episodes of an environment with their floor and ceiling."""

    suite: Any
    """A `Suite`, or a `HostSuite` of a host environment."""
    floor: np.ndarray
    """Mean return of the uniform random policy at each level, float64 ``[K]``."""
    floor_standard_error: np.ndarray
    ceiling: np.ndarray
    """Mean best return that the same episodes allow, float64 ``[K]``."""
    prints: Array | None
    """Fingerprints of the evaluation instances, uint32 ``[K, E]``; None: nothing generated."""
    kinds: EpisodeKinds | None = None
    """Of the episodes, where a level mixes some."""
    kind_floor: np.ndarray | None = None
    """Mean return of the uniform random policy by level and kind, float64 ``[K, kinds]``; NaN where
    a level has none of a kind."""


def make_references(task: Task | HostTask, evaluation: Evaluation, key: Array) -> References:
    """Lay out the evaluation episodes and measure what random and best play reach there."""
    if is_host(task):
        return _host_references(task, evaluation, key)
    suite = make_suite(task, key, evaluation.levels, evaluation.episodes)
    random = np.asarray(random_returns(task, suite), np.float64)
    best = np.asarray(task.ceiling(suite.params, suite.words), np.float64)
    prints = task.fingerprints(suite.params)
    return References(suite, random.mean(1), standard_error(random), best.mean(1), prints)


def _host_references(task: HostTask, evaluation: Evaluation, key: Array) -> References:
    suite = make_host_suite(task, key, evaluation.levels, evaluation.episodes)
    random = random_host_returns(task.spec, suite).astype(np.float64)
    kinds = task.kinds(evaluation.levels, evaluation.episodes)
    best = kinds.high[kinds.index].mean(1)
    kind_floor = means_by_kind(kinds, random)
    return References(
        suite, random.mean(1), standard_error(random), best, None, kinds, kind_floor
    )

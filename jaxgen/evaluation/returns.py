"""Statistics and scores of evaluation returns, numpy alone."""

from typing import TYPE_CHECKING

import numpy as np

from jaxgen.evaluation.scores import Scores, score_curve
from jaxgen.study.spec import Evaluation

if TYPE_CHECKING:
    from jaxgen.evaluation.references import References
    from jaxgen.types import EpisodeKinds


def means_by_kind(kinds: "EpisodeKinds", values: np.ndarray) -> np.ndarray:
    """Means ``[K, kinds]`` of values ``[K, E]``; NaN where a level has none of a kind."""
    means = np.full((len(values), len(kinds.names)), np.nan)
    for level, (level_values, index) in enumerate(zip(values, kinds.index, strict=True)):
        for kind in np.unique(index):
            means[level, kind] = level_values[index == kind].mean(dtype=np.float64)
    return means


def normalised_by_kind(references: "References", returns: np.ndarray) -> np.ndarray | None:
    """s(v) ``[K]`` of returns ``[K, E]``, each kind on its own scale; None: there are no kinds."""
    kinds, floor = references.kinds, references.kind_floor
    if kinds is None or floor is None:
        return None
    shares = np.stack([(kinds.index == kind).mean(1) for kind in range(len(kinds.names))], axis=1)
    s = (means_by_kind(kinds, returns) - floor) / (kinds.high - floor)
    return np.where(shares > 0, s * shares, 0.0).sum(1)


def standard_error(returns: np.ndarray) -> np.ndarray:
    """Standard error of the mean of returns ``[K, E]`` at each level, float64 ``[K]``."""
    return returns.std(1, ddof=1, dtype=np.float64) / returns.shape[1] ** 0.5


def score_returns(
    evaluation: Evaluation, references: "References", returns: np.ndarray
) -> Scores:
    """Scores of one policy from its returns ``[K, E]`` on the episodes of the references."""
    return score_curve(
        evaluation.levels,
        returns.mean(1, dtype=np.float64),
        references.floor,
        references.ceiling,
        standard_error(returns)[0],
        references.floor_standard_error[0],
        min_s0=evaluation.min_s0,
        normalised=normalised_by_kind(references, returns),
    )

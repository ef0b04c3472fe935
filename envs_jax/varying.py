"""Numbers of another library's environment that grow, or fall, linearly with the level."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Ends = tuple[float, float]
"""Values at levels 0 and 1."""


def checked_ends(id: str, name: str, ends: Sequence[float]) -> Ends:
    """The values at levels 0 and 1; ValueError: they vary nothing."""
    low, high = map(float, ends)
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"{id}: {name} = {low:g}:{high:g} varies nothing; use two finite numbers")
    return low, high


def values_at(vary: Mapping[str, Ends], level: Any) -> dict[str, Any]:
    """The values at a level, or at levels of any shape, by name."""
    return {name: low + (high - low) * level for name, (low, high) in vary.items()}


def describe_level(task: Any, level: float, num_episodes: int) -> str:
    """Values of what varies in a task, whose ``vary`` has the ends."""
    del num_episodes
    texts = (f"{name} {value:.4g}" for name, value in values_at(task.vary, level).items())
    return ", ".join(texts) or "as it is"

"""Returns of many parameter vectors over the same fixed episodes, in blocks.

Vectors are split over the devices, and run one by one on each, as every vector's loop then ends
with its own last episode. Nothing of a block is larger than its returns.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxgen.evaluation.episodes import FixedEpisodes, play
from jaxgen.evaluation.policy import acting
from jaxgen.evaluation.suite import Suite
from jaxgen.system.options import computing
from jaxgen.types import Array, Policy, Task

BLOCK = 512
"""Vectors of a call: so many take seconds, and their returns a few megabytes."""


@computing()
def returns_of_vectors(
    task: Any, suite: Suite, policy: Policy, vectors: np.ndarray, num_frames: int = 1
) -> np.ndarray:
    """Let vectors play greedily.

    Args:
      task: whose fixed episodes the suite holds.
      suite: of K levels and E episodes.
      policy: how a vector acts.
      vectors: float32 ``[M, D]``.
      num_frames: images that it sees at once, on the host.

    Returns:
      Returns float32 ``[M, K, E]``: those of the same episode are from the same start.
    """
    if not isinstance(suite.episodes, FixedEpisodes):
        each = (suite.play(policy, vector, False, num_frames) for vector in vectors)
        return np.stack([played.returns for played in each])
    devices = tuple(jax.local_devices())
    walk = _player(task, policy, devices)
    parts = [np.asarray(walk(block, suite.episodes)) for block in _blocks(vectors, len(devices))]
    return np.concatenate(parts)[: len(vectors)]


def _blocks(vectors: np.ndarray, num_devices: int) -> Iterator[np.ndarray]:
    """Blocks of one size, the last one filled up, so that one program is compiled."""
    size = min(BLOCK, len(vectors))
    size += -size % num_devices
    for start in range(0, len(vectors), size):
        block = vectors[start : start + size]
        yield np.concatenate([block, np.repeat(block[-1:], size - len(block), 0)])


@lru_cache(maxsize=8)
def _player(task: Task, policy: Policy, devices: tuple[Any, ...]) -> Any:
    mesh = Mesh(np.asarray(devices), ("vectors",), axis_types=(AxisType.Auto,))
    limit = task.spec.max_episode_steps

    def one(vector: Array, episodes: FixedEpisodes) -> Array:
        played = play(task.environment, episodes, acting(policy, vector, False), limit)
        return jnp.asarray(played.returns)

    def block(vectors: Array, episodes: FixedEpisodes) -> Array:
        return jax.lax.map(lambda vector: one(vector, episodes), vectors)

    mapped = jax.shard_map(
        block, mesh=mesh, in_specs=(PartitionSpec("vectors"), PartitionSpec()),
        out_specs=PartitionSpec("vectors"), check_vma=False,
    )  # fmt: skip
    return jax.jit(lambda vectors, episodes: mapped(jnp.asarray(vectors), episodes))

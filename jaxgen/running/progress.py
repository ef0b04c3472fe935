"""The state of a batch in training, in memory and in a checkpoint.

A checkpoint holds no padded lanes, so that it does not depend on the number of devices.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.results.code import code_of
from jaxgen.running.reporter import History
from jaxgen.running.session import Batch
from jaxgen.study.config import Config
from jaxgen.system import checkpoint
from jaxgen.training import fork
from jaxgen.training.program import Carry, HostState
from jaxgen.types import PyTree


class Progress(NamedTuple):
    """The state of a batch between two chunks; everything but the carry is without padded lanes."""

    carry: Carry
    """None before training begins."""
    iteration: int
    """The next one."""
    history: History
    curve: History
    seen: np.ndarray
    """Evaluation instances that occurred in training, bool ``[L, K, E]``; ``[L, 0, 0]`` where
    nothing is generated."""
    host_state: HostState
    """What `jaxgen.training.program.World.save` gave of the environment when this was saved."""
    episodes: list[History]
    """What each lane's episodes played, once it is finished; see `jaxgen.types.HostVecEnv`."""
    seconds: dict[str, float]
    """What ``compile``, ``train`` and ``evaluate`` took over all starts; is added to in place."""

    @property
    def env_steps(self) -> float:
        """Env steps of all lanes so far."""
        return float(self.history["env_steps"][:, -1].sum()) if self.history else 0.0


def lane_of(progress: Progress, index: int) -> Progress:
    """The state of a single lane, but for its carry and the environment's state."""
    pick = lambda leaf: leaf[index : index + 1]  # noqa: E731
    history, curve = jax.tree.map(pick, (progress.history, progress.curve))
    return progress._replace(
        history=history, curve=curve, seen=pick(progress.seen), episodes=pick(progress.episodes)
    )


def join(lanes: Sequence[Progress]) -> Progress:
    """The state of a batch that goes on from single lanes, at the same iteration; no time is spent.

    Raises:
      ValueError: they are of different networks, or their histories differ in shape.
    """
    first = lanes[0]
    carry = fork.join([lane.carry for lane in lanes])
    history, curve, seen = jax.tree.map(
        lambda *leaves: np.concatenate(leaves),
        *((lane.history, lane.curve, lane.seen) for lane in lanes),
    )
    episodes = [played for lane in lanes for played in lane.episodes]
    seconds = dict.fromkeys(first.seconds, 0.0)
    return Progress(carry, first.iteration, history, curve, seen, {}, episodes, seconds)


def append(history: History, new: History) -> History:
    """Lengthen each series; a name that is new begins one."""
    return {
        name: np.concatenate([history[name], values], axis=1) if name in history else values
        for name, values in new.items()
    }


def has_plateaued(config: Config, progress: Progress) -> bool:
    """Whether the only lane's learning curve has had no new best for so many points as its
    configuration allows."""
    if not config.plateau_points or not progress.curve:
        return False
    curve = progress.curve["eval_return"][0]
    return len(curve) - 1 - int(np.argmax(curve)) >= config.plateau_points


def save(path: Path, batch: Batch, progress: Progress) -> None:
    """Write a checkpoint in the place of an older one; errors as in `checkpoint.save`."""
    num_lanes = len(batch.lanes)
    tree = {
        "carry": jax.tree.map(lambda leaf: np.asarray(leaf)[:num_lanes], progress.carry),
        "history": _by_group(progress.history),
        "curve": _by_group(progress.curve),
        "seen": progress.seen,
        # Under the name that checkpoints have had since the first.
        "world": progress.host_state,
        "episodes": progress.episodes,
    }
    meta = {
        "lanes": batch.identity,
        "iteration": progress.iteration,
        "seconds": progress.seconds,
        "code": code_of(batch.lanes[0][0]),
    }
    checkpoint.save(path, tree, meta)


def load(path: Path, batch: Batch, padded: Carry) -> Progress:
    """Read a checkpoint; the carry comes back as numpy arrays, padded with copies of the last lane.

    Args:
      path: the checkpoint's folder.
      batch: its lanes.
      padded: shapes and dtypes of the carry with padded lanes.

    Raises:
      DamagedCheckpoint: it is not what was written, or does not fit ``padded``.
    """
    tree, meta = checkpoint.load(path)
    num_lanes = len(batch.lanes)
    carry = checkpoint.fit(path, tree["carry"], _with_lanes(padded, num_lanes))
    num_padding = padded.env_steps.shape[0] - num_lanes
    carry = jax.tree.map(
        lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], num_padding, axis=0)]), carry
    )
    curve, host_state = _series(tree.get("curve", {})), tree.get("world", {})
    by_lane = tree.get("episodes", {})
    episodes = [by_lane.get(str(lane), {}) for lane in range(num_lanes)]
    return Progress(
        carry, meta["iteration"], _series(tree["history"]), curve, tree["seen"], host_state,
        episodes, meta["seconds"],
    )


def _by_group(history: History) -> PyTree:
    """Series in the form that a checkpoint can name: those of ``actor/loss`` below ``actor``."""
    nested: dict[str, Any] = {}
    for name, values in history.items():
        *groups, last = name.split("/")
        below = nested
        for group in groups:
            below = below.setdefault(group, {})
        below[last] = values
    return nested


def _series(nested: PyTree, group: str = "") -> History:
    """The inverse of `_by_group`."""
    flat: History = {}
    for name, values in nested.items():
        path = f"{group}{name}"
        flat |= _series(values, f"{path}/") if isinstance(values, dict) else {path: values}
    return flat


def _with_lanes(shapes: PyTree, num_lanes: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_lanes, *leaf.shape[1:]), leaf.dtype), shapes
    )

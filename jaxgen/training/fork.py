"""Forks: lanes that go on from the state of others, with randomness of their own.

The state is a frozen `Carry`, numpy with leaves ``[L, ...]``, whatever program it came from: a
snapshot on the disk and a carry in memory are forked alike.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms.base import Algorithm
from jaxgen.study.fork import Replay
from jaxgen.training.keys import ForkedLane
from jaxgen.training.program import Carry
from jaxgen.types import Array, PyTree

REPLAY_FOLD, DIRECTION_FOLD = 2**32 - 1, 2**32 - 2
"""Folded into the parent's key of training for what a replay is split by, and for the direction in
which parameters are moved; iterations stay below."""


def gather(carry: Carry, lanes: Sequence[int]) -> Carry:
    """Copy lanes of a frozen carry, in any order and as often as they are named."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[list(lanes)], carry)


def join(carries: Sequence[Carry]) -> Carry:
    """Line up the lanes of several frozen carries.

    Raises:
      ValueError: they are not of the same program.
    """
    shapes = {
        str(jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), carry)) for carry in carries
    }
    if len(shapes) != 1:
        raise ValueError("states of different networks or environments do not train together")
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *carries)


def forked_state(
    algorithm: Algorithm, replay: Replay, state: PyTree, iteration: Array, key: Array,
    fork: ForkedLane,
) -> PyTree:
    """The state that one lane's fork begins with.

    Args:
      algorithm: of the lane.
      replay: what it takes of a replay.
      state: the parent's.
      iteration: the next one.
      key: the parent's key of training.
      fork: what it begins with.

    Raises:
      ValueError: the algorithm has no replay that could be divided.
    """
    if replay == "copy":
        return _perturbed(algorithm, state, key, fork)
    if algorithm.fork is None:
        raise ValueError(
            f"replay = {replay!r} is not allowed where an algorithm cannot divide a replay; "
            "use copy"
        )
    own = jax.random.fold_in(key, REPLAY_FOLD)
    return algorithm.fork(state, replay, iteration, own, fork.stream)


def _perturbed(algorithm: Algorithm, state: PyTree, key: Array, fork: ForkedLane) -> PyTree:
    """Add a random vector to the parameters, so long a share of theirs as the fork says; nothing
    where they are no leaf of the state."""
    vector = algorithm.params(state)
    own = jax.random.fold_in(jax.random.fold_in(key, DIRECTION_FOLD), fork.stream)
    direction = jax.random.normal(own, vector.shape)
    length = fork.perturbation * jnp.linalg.norm(vector) / jnp.linalg.norm(direction)
    # Without one the bits stay, a zero's sign among them.
    moved = jnp.where(fork.perturbation > 0, vector + length * direction, vector)
    return jax.tree.map(lambda leaf: moved if leaf is vector else leaf, state)

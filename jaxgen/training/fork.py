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
from jaxgen.system.errors import BadInput
from jaxgen.training.keys import ForkedLane
from jaxgen.training.program import Carry, Lanes, Program
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


def begun_with(program: Program, lanes: Lanes, carry: Carry, vector: np.ndarray) -> Carry:
    """The carry before the first iteration with a trained policy in each lane.

    The policy takes the place of the new one, and of all copies of that, such as a target's.
    Everything else is new: critics, moments of optimisers, an empty replay.

    Args:
      program: of the lanes.
      lanes: padded.
      carry: as ``init`` gave it.
      vector: as `Algorithm.params` has it, float32 ``[D]``.

    Raises:
      BadInput: it is of other networks, or a lane's state holds no such vector.
    """
    new = np.asarray(program.learner.params(lanes, carry))
    if new.shape[1:] != np.shape(vector):
        raise BadInput(
            f"an agent of {np.size(vector)} parameters cannot be trained on as one of "
            f"{new.shape[1]}; give the configuration that it was trained with"
        )
    policies, replaced = {policy.tobytes() for policy in new}, []

    def placed(leaf: Array) -> Array:
        # Of one lane [D], or of all of them [L, D].
        if leaf.ndim not in (1, 2) or leaf.shape[-1:] != new.shape[1:]:
            return leaf
        if any(row.tobytes() not in policies for row in np.atleast_2d(np.asarray(leaf))):
            return leaf
        replaced.append(leaf)
        moved = np.broadcast_to(np.asarray(vector, leaf.dtype), leaf.shape)
        return jax.device_put(moved, leaf.sharding)

    state = jax.tree.map(placed, carry.state)
    if not replaced:
        raise BadInput(
            "the algorithm keeps its policy in no leaf of its state, so that it cannot begin with "
            "an agent; train a new one"
        )
    return carry._replace(state=state)


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

"""Random keys of studies, seeds, purposes and iterations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.types import Array

STREAMS = ("init", "episodes", "train", "content", "probe")
"""Disjoint folds of a seed's key; evaluation has a key of its own, see `evaluation_key`."""

CURVE_PURPOSE = 1
"""Of the key of the episodes at a learning curve's points, see `evaluation_key`; 0 is that of final
evaluations, those of other kinds of study follow."""


def stream_key(study_seed: int, seed: Array, stream: str) -> Array:
    """The key of one purpose of one training seed; adding seeds changes no other key."""
    key = jax.random.fold_in(_study_key(study_seed), seed)
    return jax.random.fold_in(key, STREAMS.index(stream))


def evaluation_key(study_seed: int, purpose: int = 0) -> Array:
    """The key of the evaluation episodes, common to all runs; disjoint from training keys.

    Training folds seeds below 2**31 into the study's key, this folds from the top down.
    """
    return jax.random.fold_in(_study_key(study_seed), np.uint32(2**32 - 1 - purpose))


def _study_key(study_seed: int) -> Array:
    # Named, so that no setting of jax changes a study's numbers.
    return jax.random.key(study_seed, impl="threefry2x32")


class ForkedLane(NamedTuple):
    """The start of a lane as numbers, leaves ``[L]``; see `jaxgen.study.fork.Fork`."""

    stream: Array
    """uint32; 0: its random numbers are its parent's."""
    member: Array
    """uint32, 0 or 1: which of a pair it tells of."""
    own_data: Array
    """bool: actions and environments draw from its own stream."""
    own_order: Array
    """bool: updates do."""
    perturbation: Array
    """float32."""


class IterationKeys(NamedTuple):
    """The keys from which the parts of an iteration draw."""

    prepare: Array
    start: Array
    collect: Array
    update: Array


def iteration_keys(
    study_seed: int, seed: Array, iteration: Array | int, fork: ForkedLane | None = None
) -> IterationKeys:
    """The keys of one iteration of a lane, whatever chunk it is run in.

    Args:
      study_seed: root of all keys.
      seed: of the lane.
      iteration: its number.
      fork: what the lane began with; None: no lane of the program is a fork.
    """
    key = stream_key(study_seed, seed, "train")
    parents = _split(key, iteration)
    if fork is None:
        return parents
    own = _split(jax.random.fold_in(key, fork.stream), iteration)
    of_data, of_order = (fork.stream > 0) & fork.own_data, (fork.stream > 0) & fork.own_order
    drawn = IterationKeys(of_data, of_data, of_data, of_order)
    return jax.tree.map(jnp.where, drawn, own, parents)


def _split(train_key: Array, iteration: Array | int) -> IterationKeys:
    return IterationKeys(*jax.random.split(jax.random.fold_in(train_key, iteration), 4))

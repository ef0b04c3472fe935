"""Random keys of studies, seeds, purposes and iterations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.study.spec import MAX_FORK
from jaxgen.types import Array

STREAMS = ("init", "episodes", "train", "content", "probe")
"""Disjoint folds of a seed's key; evaluation has a key of its own, see `evaluation_key`."""


def stream_key(study_seed: int, seed: Array, stream: str) -> Array:
    """The key of one purpose of one training seed; adding seeds changes no other key."""
    key = jax.random.fold_in(_study_key(study_seed), seed)
    return jax.random.fold_in(key, STREAMS.index(stream))


def train_key(study_seed: int, seed: Array, fork: Array | None) -> Array:
    """The key of the stream "train" of a seed's fork.

    Fork 0 has the key of its parent; None: no lane of the program is a fork. Both lanes of a pair
    have the key of the pair, see `jaxgen.study.spec.Fork.lane`.
    """
    key = stream_key(study_seed, seed, "train")
    if fork is None:
        return key
    number = fork & np.uint32(MAX_FORK)
    return jnp.where(number == 0, key, jax.random.fold_in(key, number))


def evaluation_key(study_seed: int, purpose: int = 0) -> Array:
    """The key of the evaluation episodes, common to all runs; disjoint from training keys.

    Training folds seeds below 2**31 into the study's key, this folds from the top down.
    """
    return jax.random.fold_in(_study_key(study_seed), np.uint32(2**32 - 1 - purpose))


def _study_key(study_seed: int) -> Array:
    # Named, so that no setting of jax changes a study's numbers.
    return jax.random.key(study_seed, impl="threefry2x32")


class IterationKeys(NamedTuple):
    """The keys from which the parts of an iteration draw."""

    prepare: Array
    start: Array
    collect: Array
    update: Array


def iteration_keys(train_key: Array, iteration: Array | int) -> IterationKeys:
    """The keys of one iteration, whatever chunk it is run in."""
    return IterationKeys(*jax.random.split(jax.random.fold_in(train_key, iteration), 4))

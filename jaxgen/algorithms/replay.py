"""Uniform replay: one ring buffer per variation over a pytree of transitions.

The ring keeps no counter of its own: positions follow from how many entries were
inserted, which follows from the iteration's number and is common to all lanes, so
that lanes share their indices and insertion stays in place.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.types import Array, EnvSpec, PyTree, Transition


class Replay(NamedTuple):
    """A way to keep transitions, as pure functions over a ring ``[V, size, ...]``."""

    record: Callable[[Transition], Any]
    """Transition -> the part that a rollout keeps."""
    init: Callable[[], PyTree]
    """An empty ring."""
    insert: Callable[[PyTree, Any, Array], PyTree]
    """(ring, rollout ``[T, V, N, ...]``, entries that each variation inserted before) -> ring."""
    draw: Callable[[Array, tuple[int, ...], Array], Array]
    """(key, shape ``[U, V, B]``, transitions inserted into each ring) -> which to sample."""
    fetch: Callable[[PyTree, Array], PyTree]
    """(ring, index ``[U, V, B]``) -> what `complete` needs of each of the U batches."""
    complete: Callable[[PyTree, PyTree], Transition]
    """(ring, one batch of that) -> transitions ``[V, B, ...]``."""


def pack(spec: EnvSpec, obs: Array) -> Array:
    """Bytes as words, which are looked up four at a time: uint8 ``[..., *obs_shape]`` ->
    uint32 ``[..., W]``; observations of another dtype stay as they are."""
    if spec.obs_dtype != "uint8":
        return obs
    lead = obs.shape[: obs.ndim - len(spec.obs_shape)]
    flat = obs.reshape(*lead, -1)
    padded = jnp.pad(flat, [(0, 0)] * len(lead) + [(0, -flat.shape[-1] % 4)])
    return jax.lax.bitcast_convert_type(padded.reshape(*lead, -1, 4), jnp.uint32)


def unpack(spec: EnvSpec, words: Array) -> Array:
    """The inverse of `pack`."""
    if spec.obs_dtype != "uint8":
        return words
    flat = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*words.shape[:-1], -1)
    return flat[..., : math.prod(spec.obs_shape)].reshape(*words.shape[:-1], *spec.obs_shape)


def init(example: PyTree, num_variations: int, size: int) -> PyTree:
    """Allocate zeros: leaves ``[V, size, *leaf.shape]`` of the example's dtypes."""
    return jax.tree.map(
        lambda leaf: jnp.zeros((num_variations, size, *leaf.shape), leaf.dtype), example
    )


def insert(ring: PyTree, rollout: PyTree, before: Array) -> PyTree:
    """Write a rollout over the oldest entries.

    Args:
      ring: leaves ``[V, size, ...]``.
      rollout: leaves ``[T, V, N, ...]``; at most ``size`` entries per variation.
      before: entries that each variation inserted before, int32.
    """

    def write(buffer: Array, leaf: Array) -> Array:
        leaf = jnp.moveaxis(leaf, 1, 0)
        leaf = leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:])
        num_new, size = leaf.shape[1], buffer.shape[1]
        index = (before + jnp.arange(num_new)) % size
        return buffer.at[:, index].set(leaf, unique_indices=True, mode="promise_in_bounds")

    return jax.tree.map(write, ring, rollout)


def sample(ring: PyTree, index: Array) -> PyTree:
    """Look up entries: index int32 ``[..., V, B]`` -> leaves ``[..., V, B, *leaf.shape]``."""

    def read(buffer: Array) -> Array:
        variation = jnp.arange(buffer.shape[0])[:, None]
        return buffer.at[variation, index].get(mode="promise_in_bounds")

    return jax.tree.map(read, ring)

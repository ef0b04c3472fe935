"""Uniform replay: one ring buffer per variation over a pytree of transitions.

The ring keeps no counter of its own: positions follow from how many rollouts of
a fixed size were inserted, which is the iteration's number and common to all
lanes, so that lanes share their indices and insertion stays in place.
"""

import jax
import jax.numpy as jnp

from jaxgen.types import Array, PyTree


def init(example: PyTree, num_variations: int, size: int) -> PyTree:
    """Allocate zeros: leaves ``[V, size, *leaf.shape]`` of the example's dtypes."""
    return jax.tree.map(
        lambda leaf: jnp.zeros((num_variations, size, *leaf.shape), leaf.dtype), example
    )


def insert(ring: PyTree, rollout: PyTree, num_inserted: Array) -> PyTree:
    """Write a rollout over the oldest entries.

    Args:
      ring: leaves ``[V, size, ...]``.
      rollout: leaves ``[T, V, N, ...]``; at most ``size`` entries per variation.
      num_inserted: rollouts inserted before, int32.
    """

    def write(buffer: Array, leaf: Array) -> Array:
        leaf = jnp.moveaxis(leaf, 1, 0)
        leaf = leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:])
        num_new, size = leaf.shape[1], buffer.shape[1]
        index = (num_inserted * num_new + jnp.arange(num_new)) % size
        return buffer.at[:, index].set(leaf, unique_indices=True, mode="promise_in_bounds")

    return jax.tree.map(write, ring, rollout)


def sample(ring: PyTree, index: Array) -> PyTree:
    """Look up entries: index int32 ``[..., V, B]`` -> leaves ``[..., V, B, *leaf.shape]``."""

    def read(buffer: Array) -> Array:
        variation = jnp.arange(buffer.shape[0])[:, None]
        return buffer.at[variation, index].get(mode="promise_in_bounds")

    return jax.tree.map(read, ring)

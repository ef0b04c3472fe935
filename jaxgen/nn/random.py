"""Random numbers in bulk: words, uniforms and permutations from one key."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from jaxgen.types import Array


def random_words(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform random words uint32 ``[*shape]`` by Threefry-2x32 (Salmon et al. 2011).

    Both words of each evaluation count, where `jax.random.bits` folds them into one and so
    takes twice as long. Drawn flat: with several axes under vmap the same numbers compile
    and run slower. ``key`` is one of the implementation ``threefry2x32``, jax's default.
    """
    first, second = jax.random.key_data(key)
    counter = jax.lax.iota(jnp.uint32, math.prod(shape))
    return threefry_2x32((first, second), counter).reshape(shape)


def evaluation_words(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform random words uint32 ``[*shape]``: what sampled policies draw from in evaluation.

    One bit of each is 0, so that `uniform_of` gives what `jax.random.uniform` does, multiples of
    2^-23, bit by bit; earlier results were drawn by it.
    """
    return jax.random.bits(key, shape, "uint32") & np.uint32(0xFFFF_FEFF)


def uniform_of(words: Any) -> Any:
    """Uniform numbers float32 in [0, 1), multiples of 2^-24: one of each word uint32 ``[...]``.

    It takes numpy or JAX arrays and gives the same.
    """
    chex.assert_type(words, np.uint32)
    return (words >> 8).astype(np.float32) * 2.0**-24


def normal_of(words: Array) -> Array:
    """Standard normal numbers float32, one of each word uint32 ``[...]``, within 5.5 of 0.

    The inverse of the distribution function, at the middle of one of 2^24 intervals.
    """
    chex.assert_type(words, np.uint32)
    # From below -1 to 1, symmetric: 24 bits of float32 hold each of these numbers as it is.
    middle = ((words >> 8).astype(np.int32) - 2**23).astype(np.float32) + np.float32(0.5)
    return np.float32(2**0.5) * jax.lax.erf_inv(middle * np.float32(2.0**-23))


def random_permutation(key: Array, size: int) -> Array:
    """A random bijection of ``0 .. size-1``, int32 ``[size]``, without sorting.

    For a power of two, four keyed rounds of odd multiplication and xor-shift,
    each of them invertible modulo the size, shuffle minibatches at a small
    part of a sort's cost; other sizes fall back to a sort.
    """
    num_bits = size.bit_length() - 1
    if size != 1 << num_bits or num_bits < 2:
        return jax.random.permutation(key, size).astype(jnp.int32)
    mask = jnp.uint32(size - 1)
    shift = jnp.uint32((num_bits + 1) // 2)
    index = jnp.arange(size, dtype=jnp.uint32)
    for words in random_words(key, (4, 2)):
        index = (index * (words[0] | 1) + words[1]) & mask
        index = index ^ (index >> shift)
    return index.astype(jnp.int32)

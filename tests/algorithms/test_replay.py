"""The ring against a plain Python list."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import replay
from jaxgen.types import Codes, Discrete, EnvSpec, Numbers

NUM_VARIATIONS, NUM_STEPS, NUM_ENVS = 3, 4, 2


insert, sample = jax.jit(replay.insert), jax.jit(replay.sample)


def rollout_of(number: int) -> dict[str, np.ndarray]:
    """A rollout [T, V, N] whose entries say which rollout, variation and place they come from."""
    shape = (NUM_STEPS, NUM_VARIATIONS, NUM_ENVS)
    t, v, n = np.ogrid[: shape[0], : shape[1], : shape[2]]
    codes = (1000 * number + 100 * v + 10 * t + n).astype(np.float32)
    return {"reward": codes, "obs": np.stack([codes, -codes], -1).astype(np.int32)}


def filled(size: int, num_rollouts: int) -> dict[str, np.ndarray]:
    example = {"reward": np.float32(0), "obs": np.zeros(2, np.int32)}
    ring = jax.jit(lambda: replay.init(example, NUM_VARIATIONS, size))()
    for number in range(num_rollouts):
        ring = insert(ring, rollout_of(number), np.int32(NUM_STEPS * NUM_ENVS * number))
    return jax.tree.map(np.asarray, ring)


@pytest.mark.parametrize("size", [8, 11, 16, 40])
@pytest.mark.parametrize("num_rollouts", [1, 2, 5])
def test_a_ring_holds_the_newest_entries_of_its_variation(size, num_rollouts):
    """Every size, also one that no number of rollouts fills exactly: 8 new entries at a time."""
    ring = filled(size, num_rollouts)
    for variation in range(NUM_VARIATIONS):
        history = [
            float(rollout_of(number)["reward"][t, variation, n])
            for number in range(num_rollouts)
            for t in range(NUM_STEPS)
            for n in range(NUM_ENVS)
        ]
        held = ring["reward"][variation]
        kept = history[-size:]
        assert sorted(held[held != 0]) == sorted(x for x in kept if x != 0)
        expected = np.zeros(size)
        for position, value in enumerate(history):
            expected[position % size] = value
        np.testing.assert_array_equal(held, expected)
        np.testing.assert_array_equal(ring["obs"][variation, :, 1], -expected.astype(int))


def test_sampling_looks_up_each_variations_own_entries():
    ring = filled(16, 2)
    index = np.random.default_rng(0).integers(0, 16, (5, NUM_VARIATIONS, 7), np.int32)
    sampled = jax.tree.map(np.asarray, sample(ring, index))
    assert sampled["obs"].shape == (5, NUM_VARIATIONS, 7, 2)
    for update in range(5):
        for variation in range(NUM_VARIATIONS):
            expected = ring["reward"][variation, index[update, variation]]
            np.testing.assert_array_equal(sampled["reward"][update, variation], expected)
    codes = sampled["reward"] // 100 % 10
    np.testing.assert_array_equal(codes, np.broadcast_to(np.arange(3)[:, None], codes.shape))


def test_a_ring_keeps_the_dtypes_of_its_example():
    example = {"obs": jnp.zeros(49, jnp.uint8), "terminated": jnp.zeros((), bool)}
    ring = replay.init(example, 3, 5)
    assert (ring["obs"].shape, ring["obs"].dtype) == ((3, 5, 49), jnp.uint8)
    assert (ring["terminated"].shape, ring["terminated"].dtype) == ((3, 5), jnp.bool_)


@pytest.mark.parametrize("obs_shape", [(49,), (4,), (3, 5, 2), (1,)])
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_bytes_come_back_from_their_words(obs_shape, lead):
    """Four bytes to a word, the last word padded."""
    spec = EnvSpec("bytes", Codes(obs_shape, 256), Discrete(2), 10)
    obs = np.random.default_rng(0).integers(0, 256, (*lead, *obs_shape), np.uint8)
    words = jax.jit(lambda obs: replay.pack(spec, obs))(obs)
    assert words.shape == (*lead, -(-math.prod(obs_shape) // 4)) and words.dtype == jnp.uint32
    back = jax.jit(lambda words: replay.unpack(spec, words))(words)
    assert back.dtype == jnp.uint8
    np.testing.assert_array_equal(back, obs)


def test_numbers_are_kept_as_they_are():
    spec = EnvSpec("numbers", Numbers((0.0, 0.0), (1.0, 1.0)), Discrete(2), 10)
    obs = jnp.array([[0.5, -1.0]])
    assert replay.pack(spec, obs) is obs and replay.unpack(spec, obs) is obs

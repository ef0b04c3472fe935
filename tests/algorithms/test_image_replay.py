"""The replay of single images against plain lists of whole transitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import image_replay, replay
from jaxgen.nn import frames
from jaxgen.types import Codes, Discrete, EnvSpec, Image, Transition

NUM_VARIATIONS, NUM_ENVS, NUM_STEPS, NUM_FRAMES = 2, 3, 2, 4
SINGLE = EnvSpec("toy", Image(2, 2, 3), Discrete(5), 9, truncates=False)
SPEC = SINGLE.stacked(NUM_FRAMES)


def played(num_steps: int) -> list[Transition]:
    """Transitions ``[V, N]`` of random episodes, with whole stacks, step by step."""
    numbers = np.random.default_rng(0)
    shape = (NUM_VARIATIONS, NUM_ENVS)

    def image():
        return numbers.integers(0, 256, (*shape, *SINGLE.obs_shape)).astype(np.uint8)

    stack, steps = frames.begin(image(), NUM_FRAMES), []
    for _ in range(num_steps):
        done = numbers.random(shape) < 0.25
        following = frames.push(SINGLE, stack, image(), done)
        leaves = (
            stack, numbers.integers(0, 5, shape).astype(np.int32),
            numbers.normal(size=shape).astype(np.float32), done, np.zeros(shape, bool), following,
        )  # fmt: skip
        steps.append(Transition(*leaves))  # pyright: ignore
        stack = following
    return steps


def filled(size: int, steps: list[Transition]):
    """A ring after rollouts of `NUM_STEPS`, and how many transitions went into each variation."""
    store = image_replay.of_images(SPEC, NUM_FRAMES, NUM_VARIATIONS, NUM_ENVS, size)
    ring = jax.jit(store.init)()

    @jax.jit
    def insert(ring, own, number):
        recorded = [store.record(step) for step in own]
        before = number * len(recorded) * NUM_ENVS
        return store.insert(ring, jax.tree.map(lambda *x: jnp.stack(x), *recorded), before)

    for number in range(len(steps) // NUM_STEPS):
        own = steps[number * NUM_STEPS : (number + 1) * NUM_STEPS]
        ring = insert(ring, own, np.int32(number))
    return store, ring, len(steps) * NUM_ENVS


@pytest.mark.parametrize("size, num_steps", [(60, 8), (60, 20), (60, 36), (31, 26), (33, 44)])
def test_it_gives_what_a_plain_buffer_gives(size, num_steps):
    """Not yet full, just full, overwritten once and more; also with a size that N does not divide:
    31 holds 10 time steps of 3, 33 holds 11, of which rollouts of 2 never fill it evenly."""
    steps = played(num_steps)
    store, ring, inserted = filled(size, steps)
    shape = (4, NUM_VARIATIONS, 50)
    draw, complete = jax.jit(store.draw, static_argnums=1), jax.jit(store.complete)
    index = draw(jax.random.key(1), shape, np.int32(inserted))
    capacity = size // NUM_ENVS
    seen = set()
    for update in np.asarray(index):
        batch = jax.tree.map(np.asarray, complete(ring, update))
        for variation, positions in enumerate(update):
            for place, position in enumerate(positions):
                slot, env = divmod(int(position), NUM_ENVS)
                # The last time step that was written to this slot.
                time = max(t for t in range(num_steps) if t % capacity == slot)
                seen.add(time)
                expected = steps[time]
                for name in ("obs", "action", "reward", "terminated", "truncated"):
                    ours = getattr(batch, name)[variation, place]
                    np.testing.assert_array_equal(ours, getattr(expected, name)[variation, env])
                if not expected.terminated[variation, env]:
                    np.testing.assert_array_equal(
                        batch.next_obs[variation, place], expected.next_obs[variation, env]
                    )
    oldest = max(0, num_steps - capacity) + (NUM_FRAMES - 1 if num_steps >= capacity else 0)
    # All that can be put together, and nothing else: 200 draws of at most 57 entries.
    assert seen == set(range(oldest, num_steps - 1))


def test_every_entry_is_as_likely():
    """48 000 draws of 48 entries: each 1000 times, with a standard deviation of 31."""
    store, _, inserted = filled(60, played(20))
    draw = jax.jit(store.draw, static_argnums=1)
    index = draw(jax.random.key(2), (1, 1, 48_000), np.int32(inserted))
    counts = np.unique(np.asarray(index), return_counts=True)[1]
    assert len(counts) == (20 - 1 - 3) * NUM_ENVS
    assert np.abs(counts - 1000).max() < 5 * 31


def test_100_000_transitions_take_1_2_gigabytes():
    """The specified buffer; 64 x 64 x 3 bytes, an action, a reward, a flag: 12 297 bytes each."""
    spec = EnvSpec("starpilot", Image(64, 64, 12), Discrete(15), 1000, truncates=False)
    store = image_replay.of_images(spec, 4, 3, 11, 100_000 // 3)
    shapes = jax.eval_shape(store.init)
    num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    assert shapes.image.shape == (3, 33_330, 64 * 64 * 3 // 4)
    assert num_bytes == 3 * 33_330 * 12_297 < 1.5e9


def test_only_images_that_never_truncate_can_be_put_together():
    assert image_replay.fits(SPEC)
    assert not image_replay.fits(EnvSpec("cut", Image(2, 2, 3), Discrete(5), 9))
    codes = EnvSpec("codes", Codes((7,), 5), Discrete(5), 9, truncates=False)
    assert not image_replay.fits(codes)


def test_packing_is_undone():
    bits = np.random.default_rng(3).integers(0, 256, (5, *SINGLE.obs_shape))
    images = bits.astype(np.uint8)
    words = jax.jit(lambda images: replay.pack(SINGLE, images))(images)
    back = jax.jit(lambda words: replay.unpack(SINGLE, words))(words)
    np.testing.assert_array_equal(back, images)

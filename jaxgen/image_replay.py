"""Uniform replay of episodes of images that only ever terminate: each image is stored once.

The stack of images that a transition starts from, and that of its successor, are put together when
it is sampled, from the entries of the same environment before it and the one after it. 100 000
transitions of 64 x 64 x 3 take 1.2 GB, for any number of frames; with both stacks of four in every
entry they would take 9.8 GB.

Two kinds of entries are not sampled: the newest of each environment, whose successor is not there
yet, and in a ring that is full the oldest, whose images before are gone.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen import frames, replay
from jaxgen.replay import Replay
from jaxgen.types import Array, EnvSpec, PyTree, Transition


class Entry(NamedTuple):
    """What is kept of a transition; leaves ``[V, size, ...]`` in a ring."""

    image: Array
    """The newest image of its observation, packed."""
    action: Array
    reward: Array
    terminated: Array


def is_possible(spec: EnvSpec) -> bool:
    """Whether what an environment shows can be put together from single images."""
    return spec.is_image and not spec.truncates


def of_images(
    spec: EnvSpec, num_frames: int, num_variations: int, num_envs: int, size: int
) -> Replay:
    """A replay of single images.

    Args:
      spec: of the stacks that the algorithm sees.
      num_frames: images in a stack, K.
      num_variations: V.
      num_envs: N, of each variation.
      size: entries of each variation at most; whole time steps of N are kept.
    """
    *height_width, channels = spec.obs_shape
    single = dataclasses.replace(spec, obs_shape=(*height_width, channels // num_frames))
    capacity = size // num_envs
    """Time steps that the ring holds."""

    def record(transition: Transition) -> Entry:
        image = replay.pack(single, frames.newest(single, transition.obs))
        return Entry(image, transition.action, transition.reward, transition.terminated)

    def init() -> Entry:
        image = replay.pack(single, jnp.zeros(single.obs_shape, jnp.uint8))
        example = Entry(image, jnp.int32(0), jnp.float32(0), jnp.zeros((), bool))
        ring = replay.init(example, num_variations, capacity * num_envs)
        # Before the first entry lies the end of an episode.
        return ring._replace(terminated=jnp.ones_like(ring.terminated))

    def draw(key: Array, shape: tuple[int, ...], num_inserted: Array) -> Array:
        written = num_inserted // num_envs
        held = jnp.minimum(written, capacity)
        oldest = jnp.where(written >= capacity, num_frames - 1, 0)
        chosen = jax.random.randint(key, shape, 0, (held - 1 - oldest) * num_envs)
        time = (written - held + oldest + chosen // num_envs) % capacity
        return time * num_envs + chosen % num_envs

    def complete(ring: Entry, index: Array) -> Transition:
        variation = jnp.arange(num_variations)[:, None]

        def read(leaf: Array, at: Array) -> Array:
            return leaf.at[variation, at % (capacity * num_envs)].get(mode="promise_in_bounds")

        # Of each place in the stack, newest first: an episode's first image fills the rest.
        places, running = [index], jnp.ones(index.shape, bool)
        for back in range(1, num_frames):
            before = index - back * num_envs
            running = running & ~read(ring.terminated, before)
            places.append(jnp.where(running, before, places[-1]))
        images = [replay.unpack(single, read(ring.image, place)) for place in places]
        following = replay.unpack(single, read(ring.image, index + num_envs))
        terminated = read(ring.terminated, index)
        return Transition(
            obs=jnp.concatenate(images[::-1], axis=-1),
            action=read(ring.action, index),
            reward=read(ring.reward, index),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
            # Of a last step it is another episode's, and worth nothing.
            next_obs=jnp.concatenate([*images[-2::-1], following], axis=-1),
        )

    def insert(ring: PyTree, rollout: Entry, iteration: Array) -> PyTree:
        return replay.insert(ring, rollout, iteration)

    return Replay(record, init, insert, draw, fetch=lambda ring, index: index, complete=complete)

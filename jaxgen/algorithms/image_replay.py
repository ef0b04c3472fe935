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

from jaxgen.algorithms import replay
from jaxgen.algorithms.replay import Replay
from jaxgen.nn import frames
from jaxgen.types import Array, EnvSpec, Image, Transition


class Entry(NamedTuple):
    """Part of a transition that is kept; leaves ``[V, size, ...]`` in a ring."""

    image: Array
    """The newest image of its observation, packed."""
    action: Array
    reward: Array
    terminated: Array


def fits(spec: EnvSpec) -> bool:
    """Whether an environment's transitions can be put together from single images."""
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
    height, width, channels = spec.obs_shape
    single = dataclasses.replace(spec, observation=Image(height, width, channels // num_frames))
    images = _Images(single, num_frames, num_variations, num_envs, size // num_envs)
    return Replay(
        images.record, images.init, replay.insert, images.draw,
        fetch=lambda ring, index: index, complete=images.complete,
    )  # fmt: skip


class _Images(NamedTuple):
    """The functions of the replay."""

    spec: EnvSpec
    """The environment's as it shows a single image."""
    num_frames: int
    num_variations: int
    num_envs: int
    capacity: int
    """Time steps that the ring holds."""

    def record(self, transition: Transition) -> Entry:
        image = replay.pack(self.spec, frames.newest(self.spec, transition.obs))
        return Entry(image, transition.action, transition.reward, transition.terminated)

    def init(self) -> Entry:
        image = replay.pack(self.spec, jnp.zeros(self.spec.obs_shape, jnp.uint8))
        action = jnp.zeros(self.spec.actions.shape, self.spec.actions.dtype)
        example = Entry(image, action, jnp.float32(0), jnp.zeros((), bool))
        ring = replay.init(example, self.num_variations, self.capacity * self.num_envs)
        # Before the first entry lies the end of an episode.
        return ring._replace(terminated=jnp.ones_like(ring.terminated))

    def draw(self, key: Array, shape: tuple[int, ...], num_inserted: Array) -> Array:
        written = num_inserted // self.num_envs
        held = jnp.minimum(written, self.capacity)
        oldest = jnp.where(written >= self.capacity, self.num_frames - 1, 0)
        chosen = jax.random.randint(key, shape, 0, (held - 1 - oldest) * self.num_envs)
        time = (written - held + oldest + chosen // self.num_envs) % self.capacity
        return time * self.num_envs + chosen % self.num_envs

    def complete(self, ring: Entry, index: Array) -> Transition:
        variation = jnp.arange(self.num_variations)[:, None]

        def read(leaf: Array, at: Array) -> Array:
            at = at % (self.capacity * self.num_envs)
            return leaf.at[variation, at].get(mode="promise_in_bounds")

        # The place of each image of a stack, newest first: an episode's first image fills the rest.
        places, running = [index], jnp.ones(index.shape, bool)
        for back in range(1, self.num_frames):
            before = index - back * self.num_envs
            running = running & ~read(ring.terminated, before)
            places.append(jnp.where(running, before, places[-1]))
        images = [replay.unpack(self.spec, read(ring.image, place)) for place in places]
        following = replay.unpack(self.spec, read(ring.image, index + self.num_envs))
        terminated = read(ring.terminated, index)
        return Transition(
            obs=jnp.concatenate(images[::-1], axis=-1),
            action=read(ring.action, index),
            reward=read(ring.reward, index),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
            # The successor of a last step is another episode's; its value does not count.
            next_obs=jnp.concatenate([*images[-2::-1], following], axis=-1),
        )

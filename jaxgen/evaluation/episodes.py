"""Outcomes of a frozen policy over fixed evaluation episodes.

Every episode has its own key, from the level and its number, so that its
outcome depends neither on the batch it runs in nor on which levels run beside
it, and is common to all arms, algorithms and training seeds.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.evaluation.policy import Acting, random_play
from jaxgen.nn.random import evaluation_words
from jaxgen.types import Array, Environment, PyTree, Task


class FixedEpisodes(NamedTuple):
    """The fixed episodes of K levels: what to run, and the randomness of sampled policies."""

    params: PyTree
    """Environment parameters ``[K]``."""
    words: Array
    """Reset words uint32 ``[K, E, W]``."""
    keys: Array
    """A key for the policy in each episode, ``[K, E]``."""


class Played(NamedTuple):
    """The outcomes of episodes, each played once, to its end or to the time limit."""

    returns: Array | np.ndarray
    """Undiscounted, float32 ``[..., K, E]``."""
    lengths: Array | np.ndarray
    """Steps, int32 ``[..., K, E]``."""


def make_episodes(
    task: Task, key: Array, levels: tuple[float, ...], num_episodes: int
) -> FixedEpisodes:
    """Build the evaluation episodes of each level from ``key``."""
    level_keys = jax.vmap(lambda level: jax.random.fold_in(key, level))(level_ids(levels))
    return _lay_out(task, level_keys, jnp.asarray(levels, jnp.float32), num_episodes)


@partial(jax.jit, static_argnums=(0, 3))
def _lay_out(
    task: Task, level_keys: Array, levels: Array, num_episodes: int
) -> FixedEpisodes:
    def one_level(key: Array, level: Array) -> FixedEpisodes:
        content_key, policy_key = jax.random.split(key)
        params, words = task.evaluation(content_key, level[None], num_episodes)
        numbers = jnp.arange(num_episodes)
        keys = jax.vmap(lambda number: jax.random.fold_in(policy_key, number))(numbers)
        params, words = jax.tree.map(lambda leaf: leaf[0], (params, words))
        return FixedEpisodes(params, words, keys)

    return jax.vmap(one_level)(level_keys, levels)


def play(
    environment: Environment, episodes: FixedEpisodes, acting: Acting, max_steps: int
) -> Played:
    """Run every episode once, to its end or to ``max_steps``.

    Args:
      environment: pure JAX environment.
      episodes: which.
      acting: the policy.
      max_steps: the environment's time limit; the loop is never longer.
    """
    obs, state = jax.vmap(environment.reset_from)(episodes.words, episodes.params)
    total = jnp.zeros(episodes.words.shape[:2], jnp.float32)
    length = jnp.zeros(total.shape, jnp.int32)
    alive = jnp.ones(total.shape, bool)

    def running(carry: tuple[Array, Array, PyTree, Array, Array, Array]) -> Array:
        time, _, _, _, _, alive = carry
        return (time < max_steps) & alive.any()

    def step(carry: tuple[Array, Array, PyTree, Array, Array, Array]):
        time, obs, state, total, length, alive = carry
        draw = jax.vmap(jax.vmap(lambda key: step_words(key, time, acting.num_words)))
        action = environment.spec.actions.scale(acting.choose(obs, draw(episodes.keys)))
        obs, state, reward, terminated, truncated = jax.vmap(environment.advance)(
            state, action, episodes.params
        )
        total = total + jnp.where(alive, reward, 0.0)
        return time + 1, obs, state, total, length + alive, alive & ~(terminated | truncated)

    end = jax.lax.while_loop(running, step, (jnp.int32(0), obs, state, total, length, alive))
    return Played(end[3], end[4])


def play_by(task: Task, episodes: FixedEpisodes, choose: Callable) -> Played:
    """Run every episode once by a function that may be anything: it is called from Python.

    Args:
      task: environment and variations.
      episodes: which.
      choose: observations in numpy ``[K x E, *obs_shape]`` -> actions that the environment takes
        ``[K x E, *action_shape]``.

    Returns:
      Outcomes ``[K, E]``, in numpy.
    """
    environment, actions = task.environment, task.spec.actions
    shape = episodes.words.shape[:2]
    begin = jax.jit(jax.vmap(environment.reset_from))
    advance = jax.jit(jax.vmap(environment.advance))
    obs, state = begin(episodes.words, episodes.params)
    total, length = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    alive = np.ones(shape, bool)
    while alive.any() and length.max() < task.spec.max_episode_steps:
        seen = np.asarray(obs)
        chosen = choose(seen.reshape(-1, *seen.shape[2:]))
        action = np.asarray(chosen, actions.dtype).reshape(*shape, *actions.shape)
        obs, state, reward, terminated, truncated = advance(state, action, episodes.params)
        total += np.where(alive, np.asarray(reward), np.float32(0))
        length += alive
        alive &= ~np.asarray(terminated | truncated)
    return Played(total, length)


def step_words(key: Array, time: Array, num_words: int) -> Array:
    """Draw the words ``[W]`` of a step of the episode with this key."""
    return evaluation_words(jax.random.fold_in(key, time), (num_words,))


@partial(jax.jit, static_argnums=0)
def random_returns(task: Task, episodes: FixedEpisodes) -> Array:
    """Returns ``[K, E]`` of the uniform random policy: the floor of the scores."""
    spec = task.spec
    played = play(task.environment, episodes, random_play(spec.actions), spec.max_episode_steps)
    return jnp.asarray(played.returns)


def level_ids(levels: tuple[float, ...]) -> Array:
    """A number for each level, uint32 ``[K]``, to fold into keys."""
    # A level's own number, not its position, so that adding levels changes no episode.
    return jnp.asarray(np.round(np.asarray(levels) * 1_000_000), jnp.uint32)

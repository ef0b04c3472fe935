"""The collector of environments in JAX: a policy in the parallel environments of all variations.

It is scanned inside of the compiled program. That of environments on the host, with the same
rollout as result, is `jaxgen.training.host_rollout`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.algorithms.base import Algorithm
from jaxgen.nn import random
from jaxgen.types import (
    Array,
    Environment,
    Metrics,
    PyTree,
    Transition,
)


class Episodes(NamedTuple):
    """The running episodes of the parallel environments; leaves ``[V, N, ...]``."""

    obs: Array
    state: PyTree
    total: Array
    """Undiscounted reward so far, float32."""


class Ended(NamedTuple):
    """The episodes that ended at a step."""

    returns: Array
    """Return of each; 0 where none ended."""
    happened: Array
    """Whether one ended."""


def tally(total: Any, reward: Any, done: Any, xp: Any = jnp) -> tuple[Any, Ended]:
    """Add a step's reward to the running sums; arrays of jax.numpy, or of numpy as ``xp``.

    Returns the sums after it, 0 where an episode ended, and the episodes that ended.
    """
    total = total + reward
    return xp.where(done, xp.float32(0), total), Ended(xp.where(done, total, xp.float32(0)), done)


def start_episodes(
    environment: Environment, params: PyTree, algorithm: Algorithm, key: Array
) -> Episodes:
    """Reset the N environments of each variation: params ``[V]``."""
    num_variations, num_envs = jax.tree.leaves(params)[0].shape[0], algorithm.shape.num_envs
    num_starts = algorithm.shape.num_starts
    words = _reset_words(environment, key, (num_variations, num_starts))
    words = jnp.tile(words, (1, num_envs // num_starts, 1))
    obs, state = jax.vmap(environment.reset_from)(words, params)
    return Episodes(obs, state, jnp.zeros((num_variations, num_envs), jnp.float32))


def collect(
    environment: Environment,
    params: PyTree,
    algorithm: Algorithm,
    actor: PyTree,
    episodes: Episodes,
    key: Array,
) -> tuple[Episodes, PyTree, Metrics]:
    """Step all environments T times.

    Args:
      environment: pure JAX environment.
      params: its parameters ``[V]``.
      algorithm: gives ``act``, ``record`` and T.
      actor: what ``algorithm.prepare`` made.
      episodes: where the last rollout ended.
      key: randomness of the actions and the resets, drawn in bulk before the scan.

    Actions for a `Box` are in [-1, 1] as the algorithm chose them, in the rollout too; only the
    environment gets them scaled.

    Returns:
      The running episodes, the rollout (what ``record`` kept, leaves ``[T, V, N, ...]``)
      and the metrics ``reward`` (mean return of the episodes that ended; NaN if none
      did) and ``episodes`` (their number).
    """
    words, reset_key = action_words(algorithm, episodes.total, key)
    reset_words = _reset_words(environment, reset_key, words.shape[:-1])
    scale = environment.spec.actions.scale

    def step(episodes: Episodes, inputs: tuple[Array, Array]):
        words_t, reset_words_t = inputs
        action, extras = algorithm.act(actor, episodes.obs, words_t)
        next_obs, state, reward, terminated, truncated = jax.vmap(environment.advance)(
            episodes.state, scale(action), params
        )
        fresh = jax.vmap(environment.reset_from)(reset_words_t, params)
        transition = Transition(
            episodes.obs, action, reward, terminated, truncated, next_obs, extras
        )
        done = terminated | truncated
        obs, state = jax.tree.map(
            lambda a, b: jnp.where(_expand(done, a), a, b), fresh, (next_obs, state)
        )
        total, ended = tally(episodes.total, reward, done)
        sums = ended.returns.sum(), ended.happened.sum()
        return Episodes(obs, state, total), (algorithm.record(transition), sums)

    episodes, (rollout, sums) = lax.scan(step, episodes, (words, reset_words))
    return episodes, rollout, episode_metrics(*sums)


def action_words(algorithm: Algorithm, total: Array, key: Array) -> tuple[Array, Array]:
    """Draw what the actions of a rollout need -> words uint32 ``[T, V, N, W]``, a key for the
    resets; ``total`` is of `Episodes`."""
    act_key, reset_key = jax.random.split(key)
    shape = (algorithm.shape.num_steps, *total.shape, algorithm.policy.num_words)
    return random.random_words(act_key, shape), reset_key


def episode_metrics(returns: Any, counts: Any, xp: Any = jnp) -> Metrics:
    """Sums over the episodes that ended at each step, ``[T, ...]`` -> means over a rollout; arrays
    of jax.numpy, or of numpy as ``xp``."""
    count = counts.sum(0)
    mean = xp.where(count > 0, returns.sum(0) / xp.maximum(count, 1), xp.float32(xp.nan))
    return {"reward": mean, "episodes": count.astype(xp.float32)}


def _expand(mask: Array, like: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def _reset_words(environment: Environment, key: Array, shape: tuple[int, ...]) -> Array:
    # The axis of words is drawn first: what a state variable starts from lies together.
    return jnp.moveaxis(random.random_words(key, (environment.reset_words, *shape)), 0, -1)

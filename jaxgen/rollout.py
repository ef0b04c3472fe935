"""The collector: run a policy in the parallel environments of all variations.

It is the only place that knows where an environment lives: a pure JAX one is
scanned inside the compiled program, a host-side one is stepped by a Python loop
through the same functions of the algorithm, with the same rollout as result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import ops
from jaxgen.algorithms.base import Algorithm
from jaxgen.types import Array, Environment, Metrics, PyTree, Transition


class Episodes(NamedTuple):
    """The running episodes of the parallel environments; leaves ``[V, N, ...]``."""

    obs: Array
    state: PyTree
    total: Array
    """Undiscounted reward so far, float32."""


class HostVecEnv(Protocol):
    """A batched numpy environment of shape S: ``[V, N]``, or ``[L, V, N]`` for L lanes at once.

    Its randomness is its own. It may reuse its arrays: the collector copies what it keeps.
    """

    def reset(self) -> np.ndarray:
        """Start all episodes -> obs ``[*S, *obs_shape]``."""
        ...

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step with auto-reset: action int32 ``[*S]`` -> obs, reward, terminated, truncated,
        true successor; all ``[*S, ...]``. The first and the last differ where an episode ended.
        """
        ...


def start_episodes(
    environment: Environment, params: PyTree, algorithm: Algorithm, key: Array
) -> Episodes:
    """Reset the N environments of each variation: params ``[V]``."""
    num_variations, num_envs = jax.tree.leaves(params)[0].shape[0], algorithm.num_envs
    num_starts = algorithm.num_starts or num_envs
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

    Returns:
      The running episodes, the rollout (what ``record`` kept, leaves ``[T, V, N, ...]``)
      and the metrics ``reward`` (mean return of the episodes that ended; NaN if none
      did) and ``episodes`` (their number).
    """
    uniform, reset_key = action_randomness(algorithm, episodes, key)
    words = _reset_words(environment, reset_key, uniform.shape)

    def step(episodes: Episodes, inputs: tuple[Array, Array]):
        uniform_t, words_t = inputs
        action, extras = algorithm.act(actor, episodes.obs, uniform_t)
        next_obs, state, reward, terminated, truncated = jax.vmap(environment.advance)(
            episodes.state, action, params
        )
        fresh = jax.vmap(environment.reset_from)(words_t, params)
        transition = Transition(
            episodes.obs, action, reward, terminated, truncated, next_obs, extras
        )
        done = terminated | truncated
        obs, state = jax.tree.map(
            lambda a, b: jnp.where(_expand(done, a), a, b), fresh, (next_obs, state)
        )
        total = episodes.total + reward
        ended = jnp.where(done, total, 0.0).sum(), done.sum()
        episodes = Episodes(obs, state, jnp.where(done, 0.0, total))
        return episodes, (algorithm.record(transition), ended)

    episodes, (rollout, ended) = jax.lax.scan(step, episodes, (uniform, words))
    return episodes, rollout, _episode_metrics(*ended)


def action_randomness(
    algorithm: Algorithm, episodes: Episodes, key: Array
) -> tuple[Array, Array]:
    """Draw what the actions of a rollout need -> uniform ``[T, V, N]``, a key for the resets."""
    act_key, reset_key = jax.random.split(key)
    shape = (algorithm.num_steps, *episodes.total.shape)
    return ops.random_uniform(act_key, shape), reset_key


def collect_host(
    env: HostVecEnv,
    act: Callable[[np.ndarray, np.ndarray], tuple[Array, PyTree]],
    record: Callable[[Transition], PyTree],
    episodes: Episodes,
    uniform: np.ndarray,
) -> tuple[Episodes, PyTree, dict[str, np.ndarray]]:
    """Step a numpy environment T times: the Python loop that stands for `collect`'s scan.

    Args:
      env: the environment, of shape S.
      act: (obs ``[*S, ...]``, uniform ``[*S]``) -> actions and extras, compiled, closed over the
        actor.
      record: the algorithm's.
      episodes: where the last rollout ended; its ``state`` stays inside ``env``.
      uniform: randomness of the actions, ``[T, V, N]`` or ``[L, T, V, N]``.

    Returns:
      As `collect`, in numpy; with lanes the rollout's leaves are ``[L, T, V, N, ...]``.
    """
    obs, total = np.array(episodes.obs), np.array(episodes.total)
    time_axis = total.ndim - 2
    kept, ended = [], []
    for uniform_t in np.moveaxis(uniform, time_axis, 0):
        action, extras = jax.tree.map(np.asarray, act(obs, uniform_t))
        first_obs, reward, terminated, truncated, next_obs = map(np.array, env.step(action))
        reward = reward.astype(np.float32)
        transition: Any = (obs, action, reward, terminated, truncated, next_obs, extras)
        kept.append(record(Transition(*transition)))
        done = terminated | truncated
        total = total + reward
        ended.append((np.where(done, total, np.float32(0)).sum((-2, -1)), done.sum((-2, -1))))
        obs, total = first_obs, np.where(done, np.float32(0), total)
    rollout = jax.tree.map(lambda *leaves: np.stack(leaves, time_axis), *kept)
    returns, counts = (np.stack(column) for column in zip(*ended, strict=True))
    metrics = jax.tree.map(np.asarray, _episode_metrics(jnp.asarray(returns), jnp.asarray(counts)))
    return Episodes(obs, (), total), rollout, metrics  # pyright: ignore[reportArgumentType]


def _episode_metrics(returns: Array, counts: Array) -> Metrics:
    """Sums over the episodes that ended at each step, ``[T, ...]`` -> means over a rollout."""
    count = counts.sum(0)
    mean = jnp.where(count > 0, returns.sum(0) / jnp.maximum(count, 1), jnp.nan)
    return {"reward": mean, "episodes": count.astype(jnp.float32)}


def _expand(mask: Array, like: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def _reset_words(environment: Environment, key: Array, shape: tuple[int, ...]) -> Array:
    # The axis of words is drawn first: what a state variable starts from lies together.
    return jnp.moveaxis(ops.random_words(key, (environment.reset_words, *shape)), 0, -1)

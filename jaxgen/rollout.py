"""The collector: run a policy in the parallel environments of all variations.

It is the only place that knows where an environment lives: a pure JAX one is
scanned inside the compiled program, a host-side one is stepped by a Python loop
through the same functions of the algorithm, with the same rollout as result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import frames, ops
from jaxgen.algorithms.base import Algorithm
from jaxgen.types import (
    Array,
    Bridge,
    Environment,
    EnvSpec,
    HostVecEnv,
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


Fields = tuple[Array, Array, Array, Array | None]
"""Reward, terminated, truncated and true successor of a step, ``[V, N, ...]``."""
Ended = tuple[Array, Array]
"""Of episodes that ended: the return of each, 0 where none did, and whether one did; or sums."""


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
    uniform, reset_key = action_randomness(algorithm, episodes.total, key)
    words = _reset_words(environment, reset_key, uniform.shape)

    def advance(episodes: Episodes, action: Array, words_t: Array) -> tuple[PyTree, Array, Fields]:
        next_obs, state, reward, terminated, truncated = jax.vmap(environment.advance)(
            episodes.state, action, params
        )
        fresh = jax.vmap(environment.reset_from)(words_t, params)
        done = terminated | truncated
        obs, state = jax.tree.map(
            lambda a, b: jnp.where(_expand(done, a), a, b), fresh, (next_obs, state)
        )
        return state, obs, (reward, terminated, truncated, next_obs)

    episodes, rollout, ended = _scan(
        algorithm, actor, episodes, advance, (uniform, words), summarise=_sums
    )
    return episodes, rollout, _episode_metrics(*ended)


def _scan(
    algorithm: Algorithm, actor: PyTree, episodes: Episodes,
    advance: Callable[[Episodes, Array, Any], tuple[PyTree, Array, Fields]],
    inputs: tuple[Array, Any],
    summarise: Callable[[Array, Array], Ended],
) -> tuple[Episodes, PyTree, Ended]:
    """Step T times; advance: (episodes, actions, own input) -> state, observation, fields."""

    def step(episodes: Episodes, inputs: tuple[Array, Any]):
        uniform_t, own = inputs
        action, extras = algorithm.act(actor, episodes.obs, uniform_t)
        state, obs, fields = advance(episodes, action, own)
        reward, terminated, truncated, _ = fields
        transition: Any = (episodes.obs, action, *fields, extras)
        done = terminated | truncated
        total = episodes.total + reward
        kept = algorithm.record(Transition(*transition))
        ended = summarise(jnp.where(done, total, 0.0), done)
        return Episodes(obs, state, jnp.where(done, 0.0, total)), (kept, ended)

    episodes, (rollout, ended) = jax.lax.scan(step, episodes, inputs)
    return episodes, rollout, ended


def _sums(returns: Array, done: Array) -> Ended:
    return returns.sum(), done.sum()


def collect_bridged(
    bridge: Bridge, spec: EnvSpec, algorithm: Algorithm, actor: PyTree, episodes: Episodes,
    uniform: Array,
) -> tuple[Episodes, PyTree, Ended]:
    """As `collect`, of the host environment that is connected to the bridge.

    Args:
      bridge: vmap over lanes makes one call of the host for all.
      spec: of the environment; the algorithm may see a stack of its images.
      algorithm: as in `collect`.
      actor: as in `collect`.
      episodes: where the last rollout ended.
      uniform: randomness of the actions ``[T, V, N]``.

    Returns:
      The running episodes, the rollout, and returns and ends ``[T, V, N]`` for `host_metrics`.
      Where nothing truncates, ``next_obs`` of the rollout is ``[1, V, N, ...]``, the last step's,
      as the others' are the next step's ``obs``.
    """

    def advance(episodes: Episodes, action: Array, _: None) -> tuple[PyTree, Array, Fields]:
        obs, reward, terminated, truncated, next_obs = bridge.step(action)
        following = frames.push(spec, episodes.obs, obs, terminated | truncated)
        successor = None
        if spec.truncates:
            successor = frames.push(spec, episodes.obs, next_obs, jnp.zeros_like(truncated))
        return (), following, (reward, terminated, truncated, successor)

    # Not summed here: a program with other neighbours would add in another order.
    episodes, rollout, ended = _scan(
        algorithm, actor, episodes, advance, (uniform, None), summarise=lambda *ended: ended
    )
    return episodes, _with_last_obs(spec, rollout, episodes.obs[None]), ended


def _with_last_obs(spec: EnvSpec, rollout: PyTree, last_obs: Any) -> PyTree:
    if spec.truncates or not isinstance(rollout, Transition):
        return rollout
    return rollout._replace(next_obs=last_obs)


def action_randomness(
    algorithm: Algorithm, total: Array, key: Array
) -> tuple[Array, Array]:
    """Draw what the actions of a rollout need -> uniform ``[T, V, N]``, a key for the resets;
    ``total`` is of `Episodes`."""
    act_key, reset_key = jax.random.split(key)
    shape = (algorithm.num_steps, *total.shape)
    return ops.random_uniform(act_key, shape), reset_key


def collect_host(
    env: HostVecEnv,
    spec: EnvSpec,
    act: Callable[[np.ndarray, np.ndarray], tuple[Array, PyTree]],
    record: Callable[[Transition], PyTree],
    episodes: Episodes,
    uniform: np.ndarray,
) -> tuple[Episodes, PyTree, tuple[np.ndarray, np.ndarray]]:
    """As `collect_bridged`, by a Python loop, for all lanes at once.

    Args:
      env: the environment, of shape S.
      spec: its specification.
      act: (obs ``[*S, ...]``, uniform ``[*S]``) -> actions and extras, compiled, closed over the
        actor.
      record: the algorithm's.
      episodes: where the last rollout ended; its ``state`` stays inside ``env``.
      uniform: randomness of the actions, ``[T, V, N]`` or ``[L, T, V, N]``.

    Returns:
      As `collect_bridged`, in numpy; with lanes the leaves are ``[T, L, V, N, ...]``.
    """
    obs, total = np.array(episodes.obs), np.array(episodes.total)
    kept, ended = [], []
    for uniform_t in np.moveaxis(uniform, total.ndim - 2, 0):
        action, extras = jax.tree.map(np.asarray, act(obs, uniform_t))
        first_obs, reward, terminated, truncated, next_obs = map(np.array, env.step(action))
        reward = reward.astype(np.float32)
        done = terminated | truncated
        successor = None
        if spec.truncates:
            successor = frames.push(spec, obs, next_obs, np.zeros_like(done))
        transition: Any = (obs, action, reward, terminated, truncated, successor, extras)
        kept.append(record(Transition(*transition)))
        total = total + reward
        ended.append((np.where(done, total, np.float32(0)), done))
        obs = frames.push(spec, obs, first_obs, done)
        total = np.where(done, np.float32(0), total)
    rollout = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    rollout = _with_last_obs(spec, rollout, obs[None])
    returns, ends = (np.stack(column) for column in zip(*ended, strict=True))
    return Episodes(obs, (), total), rollout, (returns, ends)  # pyright: ignore


@jax.jit
def host_metrics(returns: Array, ends: Array) -> Metrics:
    """The metrics of `collect` from returns and ends of episodes ``[T, L, V, N]`` -> ``[L]``."""
    return _episode_metrics(returns.sum((-2, -1)), ends.sum((-2, -1)))


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

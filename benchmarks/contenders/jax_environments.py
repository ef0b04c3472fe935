"""JAX environments, ours and the peers', one batch of each."""

# Peers live in an environment of their own.
# pyright: reportMissingImports=false

from typing import Any

import jax

from contenders.scanning import (
    Batch,
    actions_from,
    drive,
    numbers_from,
    random_actions,
    random_numbers,
    step_with_key,
)
from worker import Run


def jaxgen(environment: str, num_envs: int, all_devices: bool) -> tuple[Run, dict]:
    """Our environments at level 1/3, where the grid is 8 x 8; one draw of words serves a step."""
    import jax.numpy as jnp

    from envs_jax import make_task
    from jaxgen.nn.random import random_words
    from jaxgen.types import Box

    task = make_task(environment)
    env, space = task.environment, task.spec.actions
    banks = task.training_params(jax.random.key(1), jnp.full(1, 1 / 3))
    params = jax.tree.map(lambda leaf: leaf[0], banks)

    def make(num: int) -> Batch:
        def start(key: jax.Array) -> Any:
            return env.reset_from(random_words(key, (env.reset_words, num)).T, params)[1]

        def step(state: Any, key: jax.Array) -> tuple[Any, Any]:
            words = random_words(key, (1 + env.reset_words, num))
            if isinstance(space, Box):
                action = numbers_from(words[0], *space.low, *space.high)[:, None]
            else:
                action = actions_from(words[0], space.num)
            final, state, reward, terminated, truncated = env.advance(state, action, params)
            fresh = env.reset_from(words[1:].T, params)
            done = terminated | truncated
            obs, state = jax.tree.map(
                lambda a, b: jnp.where(done.reshape(-1, *(1,) * (a.ndim - 1)), a, b),
                fresh, (final, state),
            )
            return state, (obs, reward, terminated, truncated)

        return Batch(start, step)

    return drive(make, num_envs, all_devices)


def gymnax(id: str, num_envs: int, all_devices: bool) -> tuple[Run, dict]:
    """gymnax's environment of this id, vmapped as its documentation does."""
    import gymnax as peer

    env, params = peer.make(id)
    space = env.action_space(params)

    def make(num: int) -> Batch:
        step_all = step_with_key(env.step, num)

        def start(key: jax.Array) -> Any:
            return jax.vmap(env.reset, (0, None))(jax.random.split(key, num), params)[1]

        def step(state: Any, key: jax.Array) -> tuple[Any, Any]:
            act_key, step_key = jax.random.split(key)
            if hasattr(space, "low"):
                action = random_numbers(act_key, num, space.low, space.high)
            else:
                action = random_actions(act_key, num, space.n)
            obs, state, reward, *ends = step_all(step_key, state, action, params)
            return state, (obs, reward, *(end for end in ends if not isinstance(end, dict)))

        return Batch(start, step)

    return drive(make, num_envs, all_devices)


def xminigrid(num_envs: int, all_devices: bool) -> tuple[Run, dict]:
    """XLand-MiniGrid's Empty-8x8 with its auto-reset wrapper."""
    import xminigrid as peer
    from xminigrid.wrappers import GymAutoResetWrapper

    env, params = peer.make("MiniGrid-Empty-8x8")
    env = GymAutoResetWrapper(env)

    def make(num: int) -> Batch:
        def start(key: jax.Array) -> Any:
            return jax.vmap(env.reset, (None, 0))(params, jax.random.split(key, num))

        def step(timestep: Any, key: jax.Array) -> tuple[Any, Any]:
            action = random_actions(key, num, 3)
            timestep = jax.vmap(env.step, (None, 0, 0))(params, timestep, action)
            return timestep, (timestep.observation, timestep.reward, timestep.step_type)

        return Batch(start, step)

    return drive(make, num_envs, all_devices)


def navix(view: str, num_envs: int, all_devices: bool) -> tuple[Run, dict]:
    """NAVIX's Empty-8x8, whose step resets by itself; it observes the ``symbolic`` whole grid, or
    as ``symbolic_first_person`` the 7x7 cells that MiniGrid, XLand-MiniGrid and ours show."""
    import navix as peer

    env = peer.make("Navix-Empty-8x8-v0", observation_fn=getattr(peer.observations, view))

    def make(num: int) -> Batch:
        def start(key: jax.Array) -> Any:
            return jax.vmap(env.reset)(jax.random.split(key, num))

        def step(timestep: Any, key: jax.Array) -> tuple[Any, Any]:
            action = random_actions(key, num, 3)
            timestep = jax.vmap(env.step)(timestep, action)
            return timestep, (timestep.observation, timestep.reward, timestep.step_type)

        return Batch(start, step)

    return drive(make, num_envs, all_devices)

"""Environments that are stepped from Python."""

# Peers live in an environment of their own.
# pyright: reportMissingImports=false

import time
from typing import Any

import numpy as np

from worker import MIN_SECONDS, Run


def _stepping(env: Any, num_envs: int, num_actions: int) -> Run:
    """Random numbers of actions."""
    actions = np.random.default_rng(0).integers(0, num_actions, (256, num_envs), np.int32)
    return _turns(env, actions, num_envs)


def _moving(env: Any, *shape: int) -> Run:
    """Random torques of HalfCheetah for environments of this shape."""
    generator = np.random.default_rng(0)
    actions = generator.uniform(-1, 1, (16, *shape, 6)).astype(np.float32)
    return _turns(env, actions, int(np.prod(shape)))


def _turns(env: Any, actions: np.ndarray, num_envs: int) -> Run:
    """Actions ``[T, ...]`` drawn beforehand; a turn lasts at least half a second."""

    def run() -> dict[str, Any]:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < MIN_SECONDS:
            for action in actions:
                env.step(action)
            steps += len(actions) * num_envs
        return {"steps": steps, "seconds": time.perf_counter() - start}

    return run


def gymnasium(num_envs: int) -> tuple[Run, dict]:
    """Gymnasium's CartPole, all environments as numpy arrays."""
    import gymnasium as peer

    env = peer.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    return _stepping(env, num_envs, 2), {}


def envpool(task: str, num_envs: int) -> tuple[Run, dict]:
    """envpool's environments in C++, in their synchronous mode."""
    import envpool as peer

    env = peer.make_gymnasium(task, num_envs=num_envs, seed=0)
    env.reset()
    return _stepping(env, num_envs, 2 if task.startswith("CartPole") else 3), {}


def minigrid(num_envs: int) -> tuple[Run, dict]:
    """The minigrid package's Empty-8x8, one environment after the other."""
    import gymnasium
    import minigrid as peer

    assert peer.__version__, "importing registers the environments"
    env = gymnasium.make_vec("MiniGrid-Empty-8x8-v0", num_envs, vectorization_mode="sync")
    env.reset(seed=0)
    return _stepping(env, num_envs, 3), {}


def half_cheetah(num_envs: int) -> tuple[Run, dict]:
    """Our HalfCheetah, all simulations in one batch of MuJoCo."""
    from envs_jax import make_task

    levels = np.zeros((1, 1), np.float32)
    env = make_task("halfcheetah").training(np.zeros((1, 4), np.uint32), levels, num_envs, num_envs)
    return _moving(env, 1, 1, num_envs), {}


def gymnasium_half_cheetah(num_envs: int) -> tuple[Run, dict]:
    """Gymnasium's HalfCheetah, one environment after the other."""
    import gymnasium as peer

    env = peer.make_vec("HalfCheetah-v5", num_envs, vectorization_mode="sync")
    env.reset(seed=0)
    return _moving(env, num_envs), {}

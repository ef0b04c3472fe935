"""Drives a batch of JAX environments with random actions; every output of every step is written."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from contenders.splitting import over_devices
from worker import MIN_SECONDS, Run, timed


class Batch(NamedTuple):
    """N environments as pure functions."""

    start: Callable[[jax.Array], Any]
    """key -> carry."""
    step: Callable[[Any, jax.Array], tuple[Any, Any]]
    """(carry, key) -> carry and what is written: observation, reward, end of episode."""


def drive(make: Callable[[int], Batch], num_envs: int, all_devices: bool) -> tuple[Run, dict]:
    """Set up T steps of N environments as one compiled program.

    Args:
      make: N -> environments.
      num_envs: in all.
      all_devices: split them over all devices, whose number must divide theirs, not leave them
        on one.
    """
    num_devices = jax.device_count() if all_devices else 1
    if num_envs % num_devices:
        raise ValueError(f"{num_envs} environments cannot be split over {num_devices} devices")
    num_steps = max(32, min(1024, 2**18 // num_envs))
    batch = make(num_envs // num_devices)

    def rollout(keys: jax.Array, carry: Any) -> tuple[jax.Array, Any, Any]:
        key, carry_key = jax.random.split(keys[0])
        one = jax.tree.map(lambda leaf: leaf[0], carry)
        one, written = jax.lax.scan(batch.step, one, jax.random.split(carry_key, num_steps))
        return key[None], *jax.tree.map(lambda leaf: leaf[None], (one, written))

    program = jax.jit(over_devices(rollout, jax.devices()[:num_devices]))
    keys = jax.random.split(jax.random.key(0), num_devices)
    carry = jax.jit(jax.vmap(batch.start))(keys)
    seconds, compiled = timed(lambda: program.lower(keys, carry).compile())
    state = [compiled(keys, carry)]

    def run() -> dict[str, Any]:
        count, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < MIN_SECONDS:
            keys, carry, _ = state[0]
            state[0] = jax.block_until_ready(compiled(keys, carry))
            count, elapsed = count + 1, time.perf_counter() - start
        return {"steps": count * num_steps * num_envs, "seconds": elapsed}

    return run, {"compile_seconds": seconds, "num_devices": num_devices}


def step_with_key(step: Callable, num_envs: int) -> Callable:
    """Vmap a gymnax-shaped ``step(key, state, action, params)`` over states and keys."""
    return lambda key, state, action, params: jax.vmap(step, (0, 0, 0, None))(
        jax.random.split(key, num_envs), state, action, params
    )


def random_actions(key: jax.Array, num_envs: int, num_actions: int) -> jax.Array:
    """Random actions int32 ``[N]``, a word each, drawn as cheaply as jaxgen draws its words."""
    return actions_from(_words(key, num_envs), num_actions)


def random_numbers(key: jax.Array, num_envs: int, low: float, high: float) -> jax.Array:
    """Random actions float32 ``[N]`` of an interval, drawn as `random_actions` are."""
    return numbers_from(_words(key, num_envs), low, high)


def _words(key: jax.Array, num_envs: int) -> jax.Array:
    first, second = jax.random.key_data(key)
    return threefry_2x32((first, second), jnp.arange(num_envs, dtype=jnp.uint32))


def actions_from(words: jax.Array, num_actions: int) -> jax.Array:
    """Actions int32 from uint32 words, alike for all contenders."""
    return ((words >> 8) % num_actions).astype(jnp.int32)


def numbers_from(words: jax.Array, low: float, high: float) -> jax.Array:
    """Actions float32 in [low, high) from uint32 words, alike for all contenders."""
    return low + (high - low) * 2.0**-24 * (words >> 8).astype(jnp.float32)

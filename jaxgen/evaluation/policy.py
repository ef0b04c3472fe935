"""How episodes are acted in: by a frozen policy, its best actions or sampled ones, or at random."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgen.nn.random import uniform_of
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, Box, Discrete, EnvSpec, Policy, PyTree


class Acting(NamedTuple):
    """A rule that plays episodes; actions for a `Box` are in [-1, 1]."""

    choose: Callable[[Any, Any], Any]
    """(obs ``[..., *obs_shape]``, words uint32 ``[..., W]``) -> actions
    ``[..., *action shape]``."""
    num_words: int = 1
    """W: how many words the choice of one action consumes."""


def acting(policy: Policy, params: PyTree, sampled: Array | bool) -> Acting:
    """Act by a policy with these parameters: draw its actions, or take its best ones.

    Args:
      policy: an algorithm's.
      params: its parameters ``[D]``.
      sampled: the mode; one that is traced makes a program of both.
    """
    best = lambda obs, words: policy.best(params, obs)  # noqa: E731
    draw = partial(policy.draw, params)
    if isinstance(sampled, bool):
        return Acting(draw if sampled else best, policy.num_words)

    def either(obs: Array, words: Array) -> Array:
        return jnp.where(sampled, draw(obs, words), best(obs, words))

    return Acting(either, policy.num_words)


def random_play(actions: Discrete | Box) -> Acting:
    """Act at random, uniformly over the space of actions; of numpy or JAX arrays alike."""
    if isinstance(actions, Box):
        return Acting(lambda obs, words: 2 * uniform_of(words) - 1, len(actions.low))

    def choose(obs: Any, words: Any) -> Any:
        return (uniform_of(words.squeeze(-1)) * actions.num).astype(np.int32)

    return Acting(choose)


def checked_choices(
    choose: Callable[[np.ndarray], Any], spec: EnvSpec
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from anywhere as a policy whose every choice is checked.

    Args:
      choose: observations ``[N, *obs_shape]`` -> N actions as the environment takes them.
      spec: the environment's.

    Returns:
      The same function; it raises BadInput for actions of another shape, that are not finite, or
      that the environment does not have.
    """

    def checked(obs: np.ndarray) -> np.ndarray:
        chosen = np.asarray(choose(obs))
        fault = _fault(chosen, (len(obs), *spec.actions.shape), spec.actions)
        if fault:
            raise BadInput(f"the function gave {fault[0]} on {spec.name}; it must give {fault[1]}")
        return chosen

    return checked


def _fault(
    chosen: np.ndarray, shape: tuple[int, ...], actions: Discrete | Box
) -> tuple[str, str] | None:
    """Why actions are not allowed, and which are."""
    if chosen.shape != shape:
        return f"actions of shape {list(chosen.shape)}", f"shape {list(shape)}"
    if not np.isfinite(chosen).all():
        return "actions that are not finite", "numbers"
    if isinstance(actions, Discrete):
        other = chosen[~np.isin(chosen, range(actions.num))]
        return (f"action {other[0]}", f"0 to {actions.num - 1}") if other.size else None
    low, high = np.asarray(actions.low, np.float32), np.asarray(actions.high, np.float32)
    other = chosen[(chosen < low) | (chosen > high)]
    if other.size:
        return f"{other[0]} in an action", f"numbers from {low.tolist()} to {high.tolist()}"
    return None

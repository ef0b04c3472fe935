"""How episodes are acted in: by a frozen policy, its best actions or sampled ones, or at random."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgen.nn.random import uniform_of
from jaxgen.types import Array, Box, Discrete, Policy, PyTree


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

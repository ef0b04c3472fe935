"""Distributions over actions, and the heads that make them of a network's outputs.

A head belongs to a space of actions. An algorithm asks the head how many outputs its network shall
have and how many random words an action takes; it never asks which space it is.
"""

import math
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, digamma

from jaxgen.nn import ops
from jaxgen.nn.random import normal_of, uniform_of
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, Box, Discrete, Policy, PyTree


class Chooser(Protocol):
    """A way to choose actions ``[..., *action shape]``, those for a `Box` in [-1, 1]."""

    def best(self) -> Array:
        """Return the preferred actions."""
        ...

    def sample(self, words: Array) -> Array:
        """Draw actions: words uint32 ``[..., W]``."""
        ...


class Distribution(Chooser, Protocol):
    """A choice with probabilities that have a gradient."""

    def log_prob(self, action: Array) -> Array:
        """Log-probability of actions -> float32 ``[...]``."""
        ...

    def negative_entropy(self) -> Array:
        """Mean log-probability in nats, float32 ``[...]``."""
        ...

    def divergence(self, other: Any) -> Array:
        """Kullback-Leibler divergence in nats from another one of its kind, float32 ``[...]``:
        the mean of log p - log q, where p is this one's and q the other's."""
        ...


Kind = TypeVar("Kind", bound=Chooser, covariant=True)


class Head(NamedTuple, Generic[Kind]):
    """The meaning of a network's outputs."""

    num_outputs: int
    """O, of each observation."""
    num_words: int
    """W, of each action."""
    of: Callable[[Array], Kind]
    """outputs float32 ``[..., O]`` -> how to choose actions."""
    num_free: int = 0
    """The last outputs that are parameters of their own, the same for all observations."""
    gives_scores: bool = False
    """Outputs are a logit for each `Discrete` action."""


class Categorical(NamedTuple):
    """A distribution over `Discrete` actions, of logits ``[..., num]``."""

    logits: Array
    log_probs: Array
    """Normalised once, so that all that is asked of a distribution has one gradient."""

    @classmethod
    def of(cls, logits: Array) -> "Categorical":
        """Make it of a network's outputs."""
        chex.assert_type(logits, float)
        return cls(logits, jax.nn.log_softmax(logits))

    def best(self) -> Array:
        """Return the most probable actions int32 ``[...]``, of equals the first."""
        return ops.greedy(self.logits)

    def sample(self, words: Array) -> Array:
        """Draw actions int32 ``[...]``: words uint32 ``[..., 1]``."""
        return ops.categorical(self.logits, uniform_of(words.squeeze(-1)))

    def log_prob(self, action: Array) -> Array:
        """Log-probability of actions int32 ``[...]`` -> float32 ``[...]``."""
        return ops.chosen(self.log_probs, action)

    def negative_entropy(self) -> Array:
        """Mean log-probability in nats, float32 ``[...]``."""
        return (jnp.exp(self.log_probs) * self.log_probs).sum(-1)

    def divergence(self, other: "Categorical") -> Array:
        """Kullback-Leibler divergence from another one, in nats, float32 ``[...]``."""
        return (jnp.exp(self.log_probs) * (self.log_probs - other.log_probs)).sum(-1)


class Point(NamedTuple):
    """A single action for a `Box`, float32 ``[..., A]`` within (-1, 1); nothing is random."""

    action: Array

    @classmethod
    def of(cls, outputs: Array) -> "Point":
        """Squash a network's outputs ``[..., A]``."""
        chex.assert_type(outputs, float)
        return cls(jnp.tanh(outputs))

    def best(self) -> Array:
        """Return the action."""
        return self.action

    def sample(self, words: Array) -> Array:
        """Return the action, whatever the words ``[..., 1]`` are."""
        chex.assert_equal_shape_prefix([self.action, words], self.action.ndim - 1)
        return self.action


MIN_LOG_STD, MAX_LOG_STD = -20.0, 2.0
"""Bounds of the logarithm of a state-dependent standard deviation (Haarnoja et al. 2018)."""


class TanhNormal(NamedTuple):
    """Independent normal numbers ``[..., A]`` that tanh squashes into a `Box`'s (-1, 1)."""

    mean: Array
    log_std: Array

    @classmethod
    def of(cls, outputs: Array) -> "TanhNormal":
        """Make it of a network's outputs ``[..., 2 A]``."""
        chex.assert_type(outputs, float)
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return cls(mean, jnp.clip(log_std, MIN_LOG_STD, MAX_LOG_STD))

    def best(self) -> Array:
        """Return the squashed means float32 ``[..., A]``."""
        return jnp.tanh(self.mean)

    def sample(self, words: Array) -> Array:
        """Draw actions float32 ``[..., A]``: words uint32 ``[..., A]``."""
        return self.transform(normal_of(words))[0]

    def transform(self, noise: Array) -> tuple[Array, Array]:
        """Make actions of standard normal noise ``[..., A]``, and their log-density ``[...]``.

        Both have gradients by the mean and the deviation. The density of the squashed number is
        that of the normal one over 1 - tanh(x)^2, whose logarithm is 2 (log 2 - x - softplus(-2
        x)), which stays exact where tanh is 1 (Haarnoja et al. 2018, appendix C, eq. 21).
        """
        chex.assert_equal_shape([self.mean, self.log_std, noise])
        number = self.mean + jnp.exp(self.log_std) * noise
        normal = -0.5 * jnp.square(noise) - self.log_std - 0.5 * LOG_TWO_PI
        slope = 2 * (LOG_TWO - number - jax.nn.softplus(-2 * number))
        return jnp.tanh(number), (normal - slope).sum(-1)


class Normal(NamedTuple):
    """Independent normal numbers ``[..., A]``; those beyond a `Box` act at its edge."""

    mean: Array
    log_std: Array

    @classmethod
    def of(cls, outputs: Array) -> "Normal":
        """Make it of a network's outputs ``[..., 2 A]``."""
        chex.assert_type(outputs, float)
        return cls(*jnp.split(outputs, 2, axis=-1))

    def best(self) -> Array:
        """Return the means float32 ``[..., A]``."""
        return self.mean

    def sample(self, words: Array) -> Array:
        """Draw actions float32 ``[..., A]``, without bounds: words uint32 ``[..., A]``."""
        return self.mean + jnp.exp(self.log_std) * normal_of(words)

    def log_prob(self, action: Array) -> Array:
        """Log-density of actions ``[..., A]``, before they are clipped -> float32 ``[...]``."""
        chex.assert_equal_shape([self.mean, action])
        distance = (action - self.mean) * jnp.exp(-self.log_std)
        return -(0.5 * jnp.square(distance) + self.log_std + 0.5 * LOG_TWO_PI).sum(-1)

    def negative_entropy(self) -> Array:
        """Mean log-density in nats, float32 ``[...]``."""
        return -(self.log_std + 0.5 * (1 + LOG_TWO_PI)).sum(-1)

    def divergence(self, other: "Normal") -> Array:
        """Kullback-Leibler divergence from another one, in nats, float32 ``[...]``."""
        wider = self.log_std - other.log_std
        distance = (self.mean - other.mean) * jnp.exp(-other.log_std)
        # exp(2 x) - 1 - 2 x in place of its parts, of which little is left where x is small.
        return (0.5 * (jnp.square(distance) + jnp.expm1(2 * wider)) - wider).sum(-1)


class Beta(NamedTuple):
    """Independent beta-distributed numbers, stretched from (0, 1) to (-1, 1) (Chou et al. 2017).

    Both parameters are above 1, so that each density has one maximum, inside. An action stands for
    the number that it is made of: its density is that of the number, over 2 for each dimension.
    """

    alpha: Array
    beta: Array

    @classmethod
    def of(cls, outputs: Array) -> "Beta":
        """Make it of a network's outputs ``[..., 2 A]``: softplus, then 1 more, `MAX_BETA` at most,
        since the logarithm of the gamma function loses digits of float32 beyond."""
        chex.assert_type(outputs, float)
        parameters = jnp.minimum(1 + jax.nn.softplus(outputs), MAX_BETA)
        return cls(*jnp.split(parameters, 2, axis=-1))

    def best(self) -> Array:
        """Return the means float32 ``[..., A]``."""
        return (self.alpha - self.beta) / (self.alpha + self.beta)

    def sample(self, words: Array) -> Array:
        """Draw actions float32 ``[..., A]``: words uint32 ``[..., 2]`` are a key of each."""
        keys = jax.random.wrap_key_data(words.reshape(-1, 2), impl="threefry2x32")
        alpha, beta = (part.reshape(-1, part.shape[-1]) for part in self)
        draw = jax.vmap(lambda key, alpha, beta: jax.random.beta(key, alpha, beta))
        number = draw(keys, alpha, beta).reshape(self.alpha.shape)
        return 2 * number.clip(BETA_EDGE, 1 - BETA_EDGE) - 1

    def log_prob(self, action: Array) -> Array:
        """Log-density of actions ``[..., A]`` -> float32 ``[...]``."""
        chex.assert_equal_shape([self.alpha, action])
        number = ((action + 1) / 2).clip(BETA_EDGE, 1 - BETA_EDGE)
        density = (self.alpha - 1) * jnp.log(number) + (self.beta - 1) * jnp.log1p(-number)
        return (density - betaln(self.alpha, self.beta) - LOG_TWO).sum(-1)

    def negative_entropy(self) -> Array:
        """Mean log-density in nats, float32 ``[...]``."""
        alpha, beta = self
        total = alpha + beta
        entropy = (
            betaln(alpha, beta) - (alpha - 1) * digamma(alpha) - (beta - 1) * digamma(beta)
            + (total - 2) * digamma(total)
        )  # fmt: skip
        return -(entropy + LOG_TWO).sum(-1)

    def divergence(self, other: "Beta") -> Array:
        """Kullback-Leibler divergence from another one, in nats, float32 ``[...]``."""
        more_alpha, more_beta = self.alpha - other.alpha, self.beta - other.beta
        divergence = (
            betaln(other.alpha, other.beta) - betaln(self.alpha, self.beta)
            + more_alpha * digamma(self.alpha) + more_beta * digamma(self.beta)
            - (more_alpha + more_beta) * digamma(self.alpha + self.beta)
        )  # fmt: skip
        return divergence.sum(-1)


MAX_BETA = 1000.0
"""The largest parameter of a `Beta`."""
BETA_EDGE = 1e-6
"""The distance that numbers keep from 0 and 1, where a density is 0 or has no logarithm."""
LOG_TWO, LOG_TWO_PI = math.log(2), math.log(2 * math.pi)


def squashed(actions: Box) -> Head[TanhNormal]:
    """Make a head of a mean and a log-deviation for each number of an action."""
    num = len(actions.low)
    return Head(2 * num, num, TanhNormal.of)


def policy_head(actions: Discrete | Box, policy: str) -> Head[Distribution]:
    """Make the head of a policy that learns by the gradient of its density.

    Args:
      actions: `Discrete` ones have a logit each.
      policy: gaussian or beta, for a `Box`.

    Raises BadInput where another policy than the default is named for `Discrete` ones.
    """
    if isinstance(actions, Discrete):
        if policy != "gaussian":
            raise BadInput(
                f"policy = {policy!r} is not allowed where actions are numbered, as each has a "
                "probability of its own there; leave it out"
            )
        return categorical(actions)
    num = len(actions.low)
    if policy == "beta":
        return Head(2 * num, 2, Beta.of)
    return Head(2 * num, num, Normal.of, num_free=num)


def categorical(actions: Discrete) -> Head[Categorical]:
    """Make a head of a logit for each action."""
    return Head(actions.num, 1, Categorical.of, gives_scores=True)


def preferred(actions: Discrete | Box) -> Head[Chooser]:
    """Make a head for a search over parameters, which needs no probabilities to learn."""
    return categorical(actions) if isinstance(actions, Discrete) else pointed(actions)


def pointed(actions: Box) -> Head[Point]:
    """Make a head of a single action."""
    return Head(len(actions.low), 1, Point.of)


def policy_of(head: Head[Chooser], outputs: Callable[[PyTree, Array], Array]) -> Policy:
    """Make the policy of a head on a network: (params ``[D]``, obs) -> outputs ``[..., O]``."""
    return Policy(
        best=lambda params, obs: head.of(outputs(params, obs)).best(),
        draw=lambda params, obs, words: head.of(outputs(params, obs)).sample(words),
        num_words=head.num_words,
        scores=outputs if head.gives_scores else None,
    )

"""Array mathematics of reinforcement learning: no state, no networks, no environments."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgen.types import Array


def generalized_advantages(
    delta: Array, done: Array, gamma: Array | float, gae_lambda: Array | float
) -> Array:
    """Sum temporal-difference errors into advantages (Schulman et al. 2016, eq. 16).

    Args:
      delta: ``r_t + gamma (1 - terminated_t) v(next_obs_t) - v(obs_t)``, float32 ``[T, ...]``.
      done: end of an episode by termination or truncation, bool ``[T, ...]``; nothing
        flows across it.
      gamma: discount.
      gae_lambda: trace decay.

    Returns:
      Advantages float32 ``[T, ...]``.
    """
    chex.assert_equal_shape([delta, done])
    chex.assert_type([delta, done], [float, bool])
    decay = gamma * gae_lambda * (1.0 - done)

    def backwards(next_advantage: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_t, decay_t = inputs
        advantage = delta_t + decay_t * next_advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(
        backwards, jnp.zeros_like(delta[0]), (delta, decay), reverse=True
    )
    return advantages


def first_episode(done: Array) -> Array:
    """Mark the steps of each environment's first episode: bool ``[T, ...]`` -> float32."""
    chex.assert_type(done, bool)
    ended_before = jnp.cumsum(done, axis=0) - done
    return (ended_before == 0).astype(jnp.float32)


class Moments(NamedTuple):
    """Number, mean and variance of numbers ``[...]``, each over samples of its own."""

    count: Array
    mean: Array
    variance: Array

    def merge(self, count: Array, mean: Array, variance: Array) -> "Moments":
        """The moments of both parts together (Chan et al. 1979)."""
        total, apart = self.count + count, mean - self.mean
        squares = (
            self.variance * self.count + variance * count + apart**2 * self.count * count / total
        )
        return Moments(total, self.mean + apart * count / total, squares / total)


class RewardScale(NamedTuple):
    """Running moments of discounted sums of rewards."""

    sums: Array
    """Discounted returns of the running episodes, float32 ``[V, N]``."""
    count: Array
    mean: Array
    variance: Array


MAX_SCALED_REWARD = 10.0


def init_reward_scale(shape: tuple[int, ...]) -> RewardScale:
    """The scale before the first reward: variance 1."""
    one = jnp.float32(1)
    return RewardScale(jnp.zeros(shape, jnp.float32), jnp.float32(1e-4), 0 * one, one)


def scale_rewards(
    scale: RewardScale, reward: Array, done: Array, gamma: Array | float
) -> tuple[Array, RewardScale]:
    """Divide rewards by the standard deviation of their discounted sums (Huang et al. 2022, 6).

    The moments take in the whole rollout before it is scaled.

    Args:
      scale: of all rollouts before.
      reward: float32 ``[T, V, N]``.
      done: end of an episode, bool ``[T, V, N]``; sums start anew after it.
      gamma: discount.

    Returns:
      Rewards float32 ``[T, V, N]``, within 10 of 0, and the scale.
    """

    chex.assert_equal_shape([reward, done])
    chex.assert_equal_shape([reward[0], scale.sums])
    chex.assert_type([reward, done], [float, bool])

    def add(sums: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        reward_t, done_t = inputs
        sums = gamma * sums + reward_t
        return jnp.where(done_t, 0.0, sums), sums

    running, sums = jax.lax.scan(add, scale.sums, (reward, done))
    before = Moments(scale.count, scale.mean, scale.variance)
    moments = before.merge(jnp.float32(sums.size), sums.mean(), sums.var())
    after = RewardScale(running, *moments)
    return scaled_rewards(after, reward), after


def scaled_rewards(scale: RewardScale, reward: Array) -> Array:
    """Divide rewards ``[...]`` by the deviation that a scale knows; within 10 of 0."""
    limit = MAX_SCALED_REWARD
    return jnp.clip(reward / jnp.sqrt(scale.variance + 1e-8), -limit, limit)


def explained_variance(prediction: Array, target: Array) -> Array:
    """Return ``1 - var(target - prediction) / var(target)``; 0 where the target is constant."""
    chex.assert_equal_shape([prediction, target])
    chex.assert_type([prediction, target], float)
    variance = target.var()
    residual = (target - prediction).var()
    return jnp.where(variance > 0, 1 - residual / jnp.where(variance > 0, variance, 1), 0.0)


def huber(error: Array) -> Array:
    """Quadratic up to 1, linear beyond: ``x^2 / 2`` or ``|x| - 1/2`` (Huber 1964)."""
    chex.assert_type(error, float)
    size = jnp.abs(error)
    return jnp.where(size <= 1, 0.5 * error**2, size - 0.5)


def centred_ranks(fitness: Array) -> Array:
    """Rank to [-1/2, 1/2], ties sharing their average rank.

    Sorting-based ranks break ties by position and so invent a gradient when
    every member scores the same; here equal fitness gives exactly zero.

    Args:
      fitness: float32 ``[P]``, P >= 2.

    Returns:
      float32 ``[P]`` with mean 0.
    """
    chex.assert_rank(fitness, 1)
    chex.assert_type(fitness, float)
    below = (fitness[:, None] > fitness[None, :]).sum(1)
    equal = (fitness[:, None] == fitness[None, :]).sum(1)
    rank = below + 0.5 * (equal - 1)
    return (rank / (fitness.shape[0] - 1) - 0.5).astype(jnp.float32)


def greedy(values: Array) -> Array:
    """Take the action of the highest value, of equals the first: ``[..., num]`` -> int32 ``[...]``.
    """
    chex.assert_type(values, float)
    return values.argmax(-1).astype(jnp.int32)


def categorical(logits: Array, uniform: Array) -> Array:
    """Sample actions by inverting the cumulative distribution.

    Args:
      logits: float32 ``[..., num]``.
      uniform: float32 ``[...]`` in [0, 1).

    Returns:
      int32 ``[...]`` in [0, num).
    """
    chex.assert_equal_shape([logits[..., 0], uniform])
    chex.assert_type([logits, uniform], float)
    cumulative = jnp.cumsum(jax.nn.softmax(logits), axis=-1)[..., :-1]
    return (uniform[..., None] >= cumulative).sum(-1).astype(jnp.int32)


def epsilon_greedy(values: Array, uniform: Array, epsilon: Array | float) -> Array:
    """Take the best action, or with probability epsilon a uniform one.

    One number serves both choices: below epsilon it is uniform on [0, epsilon).

    Args:
      values: float32 ``[..., num]``.
      uniform: float32 ``[...]`` in [0, 1).
      epsilon: probability of a uniform action.

    Returns:
      int32 ``[...]`` in [0, num).
    """
    chex.assert_equal_shape([values[..., 0], uniform])
    chex.assert_type([values, uniform], float)
    num_actions = values.shape[-1]
    explore = uniform < epsilon
    drawn = uniform / jnp.maximum(epsilon, 1e-8) * num_actions
    random_action = jnp.clip(drawn.astype(jnp.int32), 0, num_actions - 1)
    return jnp.where(explore, random_action, greedy(values))


def chosen(values: Array, action: Array) -> Array:
    """Pick the value of each action: values ``[..., num]``, action int ``[...]`` -> ``[...]``."""
    chex.assert_equal_shape_prefix([values, action], action.ndim)
    chex.assert_rank(values, action.ndim + 1)
    chex.assert_type([values, action], [float, int])
    # Compare and sum: a gather of one of a few columns is slower, in the gradient above all.
    column = jax.lax.broadcasted_iota(action.dtype, values.shape, values.ndim - 1)
    return jnp.where(column == action[..., None], values, 0.0).sum(-1)

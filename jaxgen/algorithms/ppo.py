"""Proximal policy optimisation (Schulman et al. 2017), one loss per variation.

Details follow Huang et al. 2022 ("The 37 implementation details of PPO"):
orthogonal initialisation, separate policy and value trunks, Adam with epsilon
1e-5, advantages normalised per minibatch, gradient-norm clip. Values bootstrap
through truncations with the true final observation. On images policy and value share an encoder,
and rewards may be scaled by the spread of their discounted sums.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgen.algorithms.base import Algorithm, Critic, RolloutShape
from jaxgen.algorithms.gradients import Loss
from jaxgen.algorithms.learner import (
    Adam,
    Learner,
    Optimizer,
    decay_of,
    mean_metrics,
    update_keys,
)
from jaxgen.nn import networks, ops, random
from jaxgen.nn.distributions import Distribution, Head, policy_head, policy_of
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Network, Variables
from jaxgen.study.config import PPOConfig
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, Transition


class State(NamedTuple):
    """State of training."""

    optimizer: Optimizer
    scale: ops.RewardScale | tuple[()]
    """Running moments that rewards are divided by; empty where they stay as they are."""

    @property
    def params(self) -> Array:
        """The vector of both networks, float32 ``[D]``."""
        return self.optimizer.params


class Choice(NamedTuple):
    """Facts about the choice of an action that a rollout keeps; leaves ``[T, V, N]``."""

    log_prob: Array
    value: Array | tuple[()]
    """The observation's value, where it comes out of the same network as the action."""


class Batch(NamedTuple):
    """Arguments of the loss, ``[T, V, N, ...]``, then ``[V, T * N, ...]``, ``[V, B, ...]``."""

    obs: Array
    action: Array
    log_prob: Array
    advantage: Array
    target: Array
    value: Array | tuple[()] = ()
    """Values before the update, where their changes are clipped."""


def make_ppo(config: PPOConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build PPO; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    head = policy_head(spec.actions, config.policy)
    network = networks.actor_critic(
        spec, head.num_outputs, config.hidden, encoding="one_hot", network=config.network,
        activation=ACTIVATIONS[config.activation], num_free=head.num_free,
        normalized=config.normalize_observations,
    )
    adam = Adam(
        config.learning_rate, decay_of(technique), config.adam_eps, config.max_grad_norm
    )
    learner = Learner(technique, adam, network)
    loss = partial(_loss, config, network, head)

    def init(key: Array) -> State:
        scale = ops.init_reward_scale((config.num_variations, config.num_envs))
        return State(learner.init(key), scale if config.scale_rewards else ())

    def act(actor: Variables, obs: Array, words: Array) -> tuple[Array, Choice]:
        outputs, value = network.apply(actor, obs)
        distribution = head.of(outputs)
        action = distribution.sample(words)
        log_prob = distribution.log_prob(action)
        return action, Choice(log_prob, value if network.in_turn else ())

    def update(
        state: State, actor: Variables, rollout: Transition, iteration: Array, key: Array
    ) -> tuple[State, Metrics]:
        rollout, scale = _scaled(config, state.scale, rollout)
        batch, explained = _make_batch(config, network, spec, actor, rollout)
        annealed = _annealed(config, learner, iteration)
        optimizer, metrics = _learn(config, annealed, loss, state.optimizer, batch, key)
        optimizer = learner.refresh(optimizer, rollout.obs)
        return State(optimizer, scale), metrics | {"explained_variance": explained}

    def half_gradients(state: State, actor: Variables, rollout: Transition) -> dict[str, Array]:
        """Take a whole rollout as one minibatch, in the training's scale; see `Algorithm`."""
        if isinstance(state.scale, ops.RewardScale):
            rollout = rollout._replace(reward=ops.scaled_rewards(state.scale, rollout.reward))
        batch, _ = _make_batch(config, network, spec, actor, rollout)
        if config.advantages == "minibatch":
            batch = batch._replace(advantage=_normalise(batch.advantage))
        return learner.half_gradients(actor, loss, batch)

    return Algorithm(
        init=init,
        prepare=lambda state, iteration, key: network.unravel(state.params),
        act=act,
        policy=policy_of(
            head, lambda params, obs: network.apply(network.unravel(params), obs)[0]
        ),
        params=lambda state: state.params,
        record=lambda transition: transition,
        update=update,
        half_gradients=half_gradients,
        shape=RolloutShape(config.num_envs, config.num_steps, num_starts=config.num_envs),
        in_turn=network.in_turn,
        unravel=network.unravel,
        critic=Critic(lambda state: state.params, partial(_judged, network)),
    )


def _judged(network: Network, vector: Array, obs: Array, action: Array) -> Array:
    """The values of states, whatever the action."""
    del action
    return network.apply(network.unravel(vector), obs)[1]


def _learn(
    config: PPOConfig, learner: Learner, loss: Loss, optimizer: Optimizer, batch: Batch, key: Array
) -> tuple[Optimizer, Metrics]:
    """Pass over a rollout's batch in minibatches, as often as the configuration says."""
    data = jax.tree.map(by_variation, batch)
    order = _minibatch_order(key, config)

    def step(
        optimizer: Optimizer, inputs: tuple[Array, Array | None]
    ) -> tuple[Optimizer, Metrics]:
        index, key = inputs
        batch = jax.tree.map(lambda leaf: leaf[:, index], data)
        if config.advantages == "minibatch":
            # Normalised before the minibatch is split by variation, so that every arm sees the
            # same advantages.
            batch = batch._replace(advantage=_normalise(batch.advantage))
        return learner.step(optimizer, loss, batch, key)

    inputs = order, update_keys(key, len(order), learner.draws)
    optimizer, metrics = jax.lax.scan(step, optimizer, inputs)
    return optimizer, mean_metrics(metrics)


def _scaled(
    config: PPOConfig, scale: ops.RewardScale | tuple[()], rollout: Transition
) -> tuple[Transition, ops.RewardScale | tuple[()]]:
    """Scale the rewards of a rollout where the configuration says so."""
    if not isinstance(scale, ops.RewardScale):
        return rollout, scale
    done = rollout.terminated | rollout.truncated
    reward, scale = ops.scale_rewards(scale, rollout.reward, done, config.gamma)
    return rollout._replace(reward=reward), scale


def _loss(
    config: PPOConfig, network: Network, head: Head[Distribution], variables: Variables,
    batch: Batch,
) -> tuple[Array, Metrics]:
    """The loss of one variation's minibatch, leaves ``[B, ...]``."""
    outputs, value = network.apply_in_loss(variables, batch.obs)
    distribution = head.of(outputs)
    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    ratio = jnp.exp(log_ratio)
    policy_loss = clipped_surrogate(ratio, batch.advantage, config.clip).mean()
    value_loss = 0.5 * _value_errors(config, value, batch).mean()
    # The sign after the mean: before it, the total rounds otherwise than in earlier results.
    entropy = -distribution.negative_entropy().mean()
    total = policy_loss + config.value_weight * value_loss - config.entropy * entropy
    return total, {
        "loss": total,
        "value_loss": value_loss,
        "entropy": entropy,
        # The k3 estimator of Schulman 2020: unbiased and never negative.
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": (jnp.abs(ratio - 1) > config.clip).mean(),
    }


def _value_errors(config: PPOConfig, value: Array, batch: Batch) -> Array:
    """Squared errors ``[B]``; the worse one, where changes of the value are clipped."""
    errors = jnp.square(value - batch.target)
    if not config.clip_values:
        return errors
    before = jnp.asarray(batch.value)
    change = jnp.clip(value - before, -config.clip, config.clip)
    return jnp.maximum(errors, jnp.square(before + change - batch.target))


def _annealed(config: PPOConfig, learner: Learner, iteration: Array) -> Learner:
    """The learner with the learning rate of an iteration."""
    if not config.anneal_learning_rate:
        return learner
    rate = config.learning_rate * (1 - iteration / config.num_iterations)
    return learner._replace(adam=learner.adam._replace(learning_rate=rate))


def _make_batch(
    config: PPOConfig, network: Network, spec: EnvSpec, actor: Variables, rollout: Transition
) -> tuple[Batch, Array]:
    """Make the batch, leaves ``[T, V, N, ...]``, and say how much of the targets values explain."""

    def value_of(obs: Array) -> Array:
        return network.apply(actor, obs)[1]

    value, next_value = _values(value_of, rollout, rollout.extras.value, spec.truncates)
    delta = rollout.reward + config.gamma * (1.0 - rollout.terminated) * next_value - value
    done = rollout.terminated | rollout.truncated
    advantage = ops.generalized_advantages(delta, done, config.gamma, config.gae_lambda)
    target = advantage + value
    if config.advantages == "batch":
        advantage = _normalise(advantage)
    elif config.advantages == "variation":
        advantage = jax.vmap(_normalise, in_axes=1, out_axes=1)(advantage)
    known = value if config.clip_values else ()
    batch = Batch(rollout.obs, rollout.action, rollout.extras.log_prob, advantage, target, known)
    return batch, ops.explained_variance(value, target)


def _values(
    value_of: Callable[[Array], Array], rollout: Transition, known: Array | tuple[()] = (),
    truncates: bool = True,
) -> tuple[Array, Array]:
    """Values of the observations and of their true successors, both float32 ``[T, V, N]``.

    A successor is the next observation, whose value is known, unless the episode ended.
    After a termination the value does not count. Truncations are rare: their successors are
    evaluated in rounds, the first one of each environment, then the second.

    Args:
      value_of: observations ``[..., *obs_shape]`` -> values ``[...]``.
      rollout: leaves ``[T, V, N, ...]``.
      known: values ``[T, V, N]`` of the rollout's observations, where they were kept.
      truncates: whether episodes may be truncated.
    """
    if isinstance(known, tuple):
        values = value_of(jnp.concatenate([rollout.obs, rollout.next_obs[-1:]]))
    else:
        values = jnp.concatenate([known, value_of(rollout.next_obs[-1:])])
    if not truncates:
        return values[:-1], values[1:]
    # The number of each truncation in its environment, from 1.
    count = jnp.cumsum(rollout.truncated, axis=0)

    def look_up(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        number, next_value = carry
        ends = rollout.truncated & (count == number)
        where = ends.argmax(0).reshape(1, *count.shape[1:], *[1] * (rollout.next_obs.ndim - 3))
        final_obs = jnp.take_along_axis(rollout.next_obs, where, axis=0)
        return number + 1, jnp.where(ends, value_of(final_obs), next_value)

    _, next_value = jax.lax.while_loop(
        lambda carry: (carry[0] <= count[-1]).any(), look_up, (jnp.int32(1), values[1:])
    )
    return values[:-1], next_value


def clipped_surrogate(ratio: Array, advantage: Array, clip: Array | float) -> Array:
    """The pessimistic policy loss (Schulman et al. 2017, eq. 7), elementwise over ``[...]``."""
    chex.assert_equal_shape([ratio, advantage])
    chex.assert_type([ratio, advantage], float)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def _minibatch_order(key: Array, config: PPOConfig) -> Array:
    """Indices ``[epochs * minibatches, B]`` into the samples of each variation."""
    samples = config.num_envs * config.num_steps
    keys = jax.random.split(key, config.num_epochs)
    order = jax.vmap(lambda key: random.random_permutation(key, samples))(keys)
    return order.reshape(config.num_epochs * config.num_minibatches, -1)


def by_variation(leaf: Array) -> Array:
    """``[T, V, N, ...]`` -> ``[V, T * N, ...]``."""
    leaf = jnp.moveaxis(leaf, 1, 0)
    return leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:])


def _normalise(advantage: Array) -> Array:
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)

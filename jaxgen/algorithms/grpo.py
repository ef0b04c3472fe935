"""Group relative policy optimisation (Shao et al. 2024) in control, without a critic.

An iteration plays one episode in each environment. Those of a group are compared with each other:
what an action is worth is what its episode returned, or what was left of it at the action's step,
less the group's mean of the same. Groups may begin in one state, as samples of one prompt do, so
that the mean knows what the start was worth. No term is divided by an episode's length, which would
weight the steps of short, bad episodes more (Liu et al. 2025).

A divergence holds the policy near a reference, a copy of itself that is renewed now and then.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgen.algorithms.base import Algorithm, RolloutShape
from jaxgen.algorithms.gradients import Loss
from jaxgen.algorithms.learner import (
    SKIPPED,
    UPDATE_KEYS,
    Adam,
    Learner,
    Optimizer,
    decay_of,
)
from jaxgen.algorithms.ppo import by_variation, clipped_surrogate
from jaxgen.nn import networks, ops, random
from jaxgen.nn.distributions import Distribution, Head, policy_head, policy_of
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Network, Variables
from jaxgen.study.config import GRPOConfig
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, Transition

TINY = 1e-8
"""Added to a deviation, as Shao et al. have it."""
ROUNDING = 1e-6
"""Share of the largest number of a group below which a difference from its mean is none."""


class State(NamedTuple):
    """State of training."""

    optimizer: Optimizer
    reference: Array
    """The policy that the divergence is from, float32 ``[D]``."""
    age: Array
    """Env steps that were learned from since it was renewed, int32."""


class Kept(NamedTuple):
    """Part of the transitions that a rollout keeps, leaves ``[T, V, N, ...]``."""

    obs: Array
    action: Array
    reward: Array
    done: Array
    log_prob: Array


class Batch(NamedTuple):
    """Arguments of the loss, ``[T, V, N, ...]``, then ``[V, T * N, ...]``, ``[V, B, ...]``."""

    obs: Array
    action: Array
    log_prob: Array
    advantage: Array
    reference: Array
    """Outputs of the reference policy's network ``[..., O]``."""
    weight: Array
    """1 for steps of the first episode of an environment, 0 for what it played after it; in a
    minibatch scaled to a mean of 1."""


class Parts(NamedTuple):
    """The parts that an algorithm is made of."""

    config: GRPOConfig
    head: Head[Distribution]
    learner: Learner
    loss: Loss

    @property
    def num_groups(self) -> int:
        """K, groups of a variation; environment e is in group e modulo K."""
        return self.config.num_envs // self.config.group_size


def make_grpo(config: GRPOConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build GRPO; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    parts = _make_parts(config, technique, spec)
    head, learner = parts.head, parts.learner
    network = learner.network

    def init(key: Array) -> State:
        optimizer = learner.init(key)
        return State(optimizer, optimizer.params, jnp.int32(0))

    def act(actor: Variables, obs: Array, words: Array) -> tuple[Array, Array]:
        distribution = head.of(network.apply(actor, obs))
        action = distribution.sample(words)
        return action, distribution.log_prob(action)

    def record(transition: Transition) -> Kept:
        done = transition.terminated | transition.truncated
        return Kept(
            transition.obs, transition.action, transition.reward, done, transition.extras
        )

    return Algorithm(
        init=init,
        prepare=lambda state, iteration, key: network.unravel(state.optimizer.params),
        act=act,
        policy=policy_of(head, lambda params, obs: network.apply(network.unravel(params), obs)),
        params=lambda state: state.optimizer.params,
        record=record,
        update=lambda state, actor, rollout, iteration, key: _update(parts, state, rollout, key),
        half_gradients=partial(_half_gradients, parts),
        shape=RolloutShape(
            config.num_envs, min(config.num_steps, spec.max_episode_steps),
            num_starts=parts.num_groups if config.same_start else config.num_envs, fresh=True,
        ),
        in_turn=network.in_turn,
        unravel=network.unravel,
        count_steps=lambda rollout: ops.first_episode(rollout.done).sum().astype(jnp.int32),
    )


def _make_parts(config: GRPOConfig, technique: Technique, spec: EnvSpec) -> Parts:
    head = policy_head(spec.actions, config.policy)
    network = networks.policy(
        spec, head.num_outputs, config.hidden, encoding="one_hot", network=config.network,
        activation=ACTIVATIONS[config.activation], num_free=head.num_free,
        normalized=config.normalize_observations,
    )
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps, config.max_grad_norm)
    loss = partial(_loss, config, network, head)
    return Parts(config, head, Learner(technique, adam, network), loss)


def _update(parts: Parts, state: State, rollout: Kept, key: Array) -> tuple[State, Metrics]:
    """Learn from a rollout; see `jaxgen.algorithms.base.Update`."""
    config, learner = parts.config, parts.learner
    due = state.age >= config.reference_interval
    reference = jnp.where(due, state.optimizer.params, state.reference)
    live = ops.first_episode(rollout.done)
    batch = _make_batch(parts, reference, rollout, live, (config.group_size, parts.num_groups))
    optimizer, metrics = _learn(parts, state.optimizer, batch, key)
    if learner.network.refresh is not None:
        optimizer = learner.refresh(optimizer, _live_alone(rollout.obs, live))
    age = jnp.where(due, 0, state.age) + live.sum().astype(jnp.int32)
    reward = (rollout.reward * live).sum(0).mean()
    return State(optimizer, reference, age), metrics | {"reward": reward}


def _half_gradients(
    parts: Parts, state: State, actor: Variables, rollout: Kept
) -> dict[str, Array]:
    """Compare each half of a group's episodes with itself; see `Algorithm`."""
    live = ops.first_episode(rollout.done)
    halves = (2, parts.config.group_size // 2, parts.num_groups)
    batch = _make_batch(parts, state.reference, rollout, live, halves)
    weight = live.reshape(*live.shape[:2], 2, -1)
    weight = (weight / weight.mean((0, 3), keepdims=True)).reshape(live.shape)
    return parts.learner.half_gradients(actor, parts.loss, batch._replace(weight=weight))


def group_advantages(
    reward: Array, gamma: Array | float, *, credit: str, baseline: str, scale_by_deviation: bool
) -> Array:
    """Compare the episodes of groups.

    Args:
      reward: float32 ``[T, ..., G, K]`` of G episodes in each of K groups, 0 after an episode.
      gamma: discount.
      credit: ``episode`` credits all steps with its discounted return (Shao et al. 2024, outcome
        supervision), ``step`` with the discounted rewards from there on.
      baseline: ``group`` takes off the mean over the G episodes, of which one that is over has
        nothing left; ``others`` that over the other ones (Kool et al. 2019), which is G / (G - 1)
        times as much.
      scale_by_deviation: divide by the standard deviation over the G episodes.

    Returns:
      Advantages float32 ``[T, ..., G, K]``.
    """
    chex.assert_type(reward, float)
    worth = ops.generalized_advantages(reward, jnp.zeros(reward.shape, bool), gamma, 1.0)
    if credit == "episode":
        worth = jnp.broadcast_to(worth[:1], worth.shape)
    advantage = worth - worth.mean(-2, keepdims=True)
    # What rounding leaves of equal returns must not be blown up by a deviation that is as small.
    size = jnp.abs(worth).max(-2, keepdims=True)
    advantage = jnp.where(jnp.abs(advantage) <= ROUNDING * size, 0.0, advantage)
    if baseline == "others":
        num = reward.shape[-2]
        advantage = advantage * (num / max(num - 1, 1))
    if scale_by_deviation:
        advantage = advantage / (worth.std(-2, keepdims=True) + TINY)
    return advantage


def _make_batch(
    parts: Parts, reference: Array, rollout: Kept, live: Array, groups: tuple[int, ...]
) -> Batch:
    """Make the batch of a rollout whose environments ``[N]`` are groups ``[..., G, K]``."""
    config, network = parts.config, parts.learner.network
    reward = (rollout.reward * live).reshape(*live.shape[:2], *groups)
    advantage = group_advantages(
        reward, config.gamma, credit=config.credit, baseline=config.baseline,
        scale_by_deviation=config.scale_by_deviation,
    )
    outputs = network.apply(network.unravel(reference), rollout.obs)
    return Batch(
        rollout.obs, rollout.action, rollout.log_prob, advantage.reshape(live.shape), outputs, live
    )


def _learn(
    parts: Parts, optimizer: Optimizer, batch: Batch, key: Array
) -> tuple[Optimizer, Metrics]:
    """Pass over the live steps of a batch in minibatches, as often as the configuration says.

    A pass has as many updates as the variation with the most live steps fills minibatches; the
    steps of every variation are dealt out to them evenly, so that none is left out of any.
    """
    config, learner, data = parts.config, parts.learner, jax.tree.map(by_variation, batch)
    num_live = data.weight.sum(1).astype(jnp.int32)
    num_samples = data.weight.shape[1]
    size = min(config.minibatch_size, num_samples)
    num_updates = -(-num_live.max() // size)
    order_keys = jax.random.split(key, config.num_epochs)
    update_key = jax.random.fold_in(key, UPDATE_KEYS)

    def step(
        order: Array, epoch: Array, number: Array, optimizer: Optimizer
    ) -> tuple[Optimizer, Metrics]:
        place = number + jnp.arange(size) * num_updates
        index = order[:, jnp.minimum(place, num_samples - 1)]
        batch = jax.tree.map(lambda leaf: jax.vmap(lambda each, i: each[i])(leaf, index), data)
        live = (place[None] < num_live[:, None]).astype(jnp.float32)
        weight = live / jnp.maximum(live.mean(1, keepdims=True), 1 / size)
        drawn = jax.random.fold_in(update_key, epoch * num_updates + number)
        return learner.step(
            optimizer, parts.loss, batch._replace(weight=weight), drawn if learner.draws else None
        )

    def epoch(
        carry: tuple[Optimizer, Metrics], inputs: tuple[Array, Array]
    ) -> tuple[tuple[Optimizer, Metrics], None]:
        order = live_first(inputs[1], data.weight)

        def add(number: Array, carry: tuple[Optimizer, Metrics]) -> tuple[Optimizer, Metrics]:
            optimizer, metrics = step(order, inputs[0], number, carry[0])
            return optimizer, jax.tree.map(jnp.add, carry[1], metrics)

        return jax.lax.fori_loop(0, num_updates, add, carry), None

    order = jnp.zeros(data.weight.shape, jnp.int32)
    shapes = jax.eval_shape(step, order, num_updates, num_updates, optimizer)[1]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    inputs = jnp.arange(config.num_epochs), order_keys
    (optimizer, sums), _ = jax.lax.scan(epoch, (optimizer, zeros), inputs)
    total = (config.num_epochs * num_updates).astype(jnp.float32)
    metrics = {
        name: value if name.endswith(SKIPPED) else value / total for name, value in sums.items()
    }
    return optimizer, metrics | {"updates": total}


def live_first(key: Array, live: Array) -> Array:
    """The live samples of each variation in a random order.

    Args:
      key: randomness.
      live: 1 or 0, float32 ``[V, S]``.

    Returns:
      Their indices int32 ``[V, S]``, and zeros behind them.
    """
    num_samples = live.shape[1]
    # Of a power of two, which needs no sort, and one pass in place of another sort.
    order = random.random_permutation(key, max(4, 1 << (num_samples - 1).bit_length()))
    return jax.vmap(_packed, in_axes=(None, 0))(order, live)


def _packed(order: Array, live: Array) -> Array:
    """The live ones of samples ``[S]`` in an order, which may hold larger numbers, then zeros."""
    num_samples = live.size
    counts = (order < num_samples) & (live[jnp.minimum(order, num_samples - 1)] > 0)
    place = jnp.where(counts, jnp.cumsum(counts) - 1, num_samples)
    return jnp.zeros(num_samples, jnp.int32).at[place].set(order, mode="drop")


def _live_alone(obs: Array, live: Array) -> Array:
    """Observations of live steps in turn, as many as of all: ``[T, V, N, ...]`` -> ``[S, ...]``."""
    flat, mask = obs.reshape(-1, *obs.shape[3:]), live.reshape(-1)
    order = _packed(jnp.arange(mask.size), mask)
    number = jnp.maximum(mask.sum().astype(jnp.int32), 1)
    return flat[order[jnp.arange(mask.size) % number]]


def _loss(
    config: GRPOConfig, network: Network, head: Head[Distribution], variables: Variables,
    batch: Batch,
) -> tuple[Array, Metrics]:
    """The loss of one variation's minibatch, leaves ``[B, ...]``."""
    distribution = head.of(network.apply_in_loss(variables, batch.obs))
    reference = head.of(batch.reference)
    log_prob = distribution.log_prob(batch.action)
    log_ratio = log_prob - batch.log_prob
    ratio = jnp.exp(log_ratio)
    policy_loss = clipped_surrogate(ratio, batch.advantage, config.clip)
    if config.kl == "exact":
        divergence = distribution.divergence(reference)
    else:
        divergence = k3(reference.log_prob(batch.action) - log_prob)
    entropy = -distribution.negative_entropy()
    losses = policy_loss + config.kl_weight * divergence - config.entropy * entropy
    mean = lambda values: (batch.weight * values).mean()  # noqa: E731
    total = mean(losses)
    return total, {
        "loss": total,
        "entropy": mean(entropy),
        "reference_kl": mean(divergence),
        "approx_kl": mean(k3(log_ratio)),
        "clip_fraction": mean(jnp.abs(ratio - 1) > config.clip),
    }


def k3(log_ratio: Array) -> Array:
    """Schulman's estimate of a divergence (2020), unbiased and never negative, elementwise.

    Args:
      log_ratio: log q - log p of samples of p, float32 ``[...]``.

    Returns:
      Estimates of KL(p, q), float32 ``[...]``.
    """
    return jnp.expm1(log_ratio) - log_ratio

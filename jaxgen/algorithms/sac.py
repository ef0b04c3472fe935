"""Soft actor-critic (Haarnoja et al. 2018b): two critics, a squashed normal policy, a temperature.

Truncations bootstrap from the true successor, terminations do not. Rings, sampling and the start of
learning are those of `jaxgen.algorithms.off_policy`; until then actions are uniform. The critics
are the primary group of parameters, as they learn from rewards; the policy is the group ``actor``,
whose variations' gradients are combined by their own agreement. The temperature descends along the
mean over variations. With ``critic_norm = batch`` it is CrossQ (Bhatt et al. 2024) with critics of
usual width: no targets, and layers normalised over the batch of both steps.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxgen.algorithms import off_policy
from jaxgen.algorithms.base import Algorithm, RolloutShape, box_actions
from jaxgen.algorithms.gradients import Combined
from jaxgen.algorithms.learner import Adam, Learner, Optimizer, decay_of
from jaxgen.algorithms.off_policy import Actor, Judged
from jaxgen.nn import networks
from jaxgen.nn.critics import Measured, make_critics, make_normalized_critics
from jaxgen.nn.distributions import Head, TanhNormal, policy_of, squashed
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Variables
from jaxgen.nn.random import normal_of, random_words, uniform_of
from jaxgen.study.config import SACConfig
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, PyTree, Transition

NOISE_KEY = 0x736163
"""Key of the noise of the probe, which is the same at each point; samples have their own."""
STATISTICS = "statistics"
"""Name under which the critics' loss hands over their running statistics."""


class State(NamedTuple):
    """State of training."""

    actor: Optimizer
    critic: Optimizer
    target: PyTree
    """Vector of the target critics, float32 ``[D]``; () where there are none."""
    temperature: Optimizer
    """Its logarithm, float32 ``[1]``."""
    ring: PyTree
    """Transitions as the replay keeps them, leaves ``[V, ring size, ...]``."""


class Followed(NamedTuple):
    """The same where the critics' targets are their own values; leaves ``[V, B, ...]``."""

    obs: Array
    action: Array
    next_obs: Array
    next_action: Array
    reward: Array
    terminated: Array
    bonus: Array
    """What entropy adds to the following value."""
    gamma: Array


class Acted(NamedTuple):
    """Arguments of the policy's loss; leaves ``[V, B, ...]``."""

    obs: Array
    noise: Array
    """Standard normal numbers that actions are made of."""


class Parts(NamedTuple):
    """The parts that all functions of the algorithm share."""

    config: SACConfig
    head: Head[TanhNormal]
    actor: Learner
    critic: Learner
    measured: Measured | None
    """What judges by a batch's own statistics, if the critics do; see `normalized_critics`."""


def make_sac(config: SACConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build SAC; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    parts = _make_parts(config, technique, spec)
    policy, store = parts.actor.network, off_policy.make_replay(config, spec)
    temperature = Adam(config.learning_rate, 0.0, config.adam_eps)

    def init(key: Array) -> State:
        actor_key, critic_key = jax.random.split(key)
        critic = parts.critic.init(critic_key)
        log_temperature = jnp.log(jnp.full(1, config.initial_temperature, jnp.float32))
        # The target starts as a copy with a buffer of its own, so that a carry can be donated.
        target = () if parts.measured else critic.params + 0.0
        return State(
            parts.actor.init(actor_key), critic, target,
            temperature.init(log_temperature), store.init(),
        )  # fmt: skip

    def prepare(state: State, iteration: Array, key: Array) -> Actor:
        before = iteration * config.steps_per_iteration
        return Actor(policy.unravel(state.actor.params), before < config.learning_starts)

    def act(actor: Actor, obs: Array, words: Array) -> tuple[Array, PyTree]:
        chosen = parts.head.of(policy.apply(actor.variables, obs)).sample(words)
        return jax.lax.select(actor.explores, 2 * uniform_of(words) - 1, chosen), ()

    def half_gradients(state: State, actor: Actor, rollout: Transition) -> dict[str, Array]:
        """Take the losses on the rollout itself, not on the replay; see `Algorithm`."""
        transitions = off_policy.several_steps(config, rollout)
        transitions = off_policy.unpacked(spec, transitions)
        noise = _noise(jax.random.key(NOISE_KEY), transitions.action)
        judged, acted = _batches(parts, state, transitions, noise)
        critics = parts.critic.network.unravel(state.critic.params)
        policy_loss = partial(_policy_loss, parts, critics, _temperature(state))
        return parts.critic.half_gradients(
            critics, partial(_critic_loss, parts), judged
        ) | parts.actor.half_gradients(actor.variables, policy_loss, acted)

    replayed = off_policy.replayed(
        config, store, lambda _: partial(_learn, parts, temperature), draws=True,
        numbered=config.policy_delay > 1,
    )  # fmt: skip
    return Algorithm(
        init=init,
        prepare=prepare,
        act=act,
        policy=policy_of(
            parts.head, lambda params, obs: policy.apply(policy.unravel(params), obs)
        ),
        params=lambda state: state.actor.params,
        record=store.record,
        update=partial(replayed.update, config.num_envs * config.num_steps),
        half_gradients=half_gradients,
        shape=RolloutShape(config.num_envs, config.num_steps, num_starts=config.num_envs),
        replayed=replayed,
        fork=partial(off_policy.forked, config),
        unravel=policy.unravel,
        critic=off_policy.critic_of(parts.critic.network),
    )


def _make_parts(config: SACConfig, technique: Technique, spec: EnvSpec) -> Parts:
    head = squashed(box_actions(config.algorithm, spec))
    options: dict[str, Any] = {
        "activation": ACTIVATIONS[config.activation],
        "initialisation": config.initialisation,
    }
    policy = networks.mlp(
        spec, head.num_outputs, config.hidden, encoding="raw", head_scale=1.0, **options
    )
    measured, critics = None, make_critics(spec, config.hidden, **options)
    if config.critic_norm == "batch":
        critics, measured = make_normalized_critics(spec, config.hidden, **options)
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps)
    return Parts(
        config, head, Learner(technique, adam, policy, group="actor"),
        Learner(technique, adam, critics), measured,
    )  # fmt: skip


def _learn(
    parts: Parts,
    adam: Adam,
    state: State,
    batch: Transition,
    key: Array | None,
    number: Array | None,
) -> tuple[State, Metrics]:
    """Make one update: the critics, then the policy by them, the temperature, the target.

    The temperature of before weighs entropy in all losses of the update.
    """
    assert key is not None
    config = parts.config
    noise_key, technique_key = jax.random.split(key)
    judged, acted = _batches(parts, state, batch, _noise(noise_key, batch.action))
    critic, metrics = parts.critic.step(
        state.critic, partial(_critic_loss, parts), judged, technique_key
    )
    if parts.measured:
        critic = critic._replace(params=_with_statistics(critic.params, metrics.pop(STATISTICS)))
    critics = parts.critic.network.unravel(critic.params)

    def improve(state: State) -> tuple[State, Metrics]:
        actor, metrics = parts.actor.step(
            state.actor, partial(_policy_loss, parts, critics, _temperature(state)), acted,
            technique_key,
        )  # fmt: skip
        target_entropy = -config.target_entropy * batch.action.shape[-1]
        # Of minus log-temperature times (log-density + target), whose mean over variations it is.
        excess = -(metrics["actor/log_prob"] + target_entropy)[None]
        combined = Combined(excess, jnp.bool_(True), {"grad_norm": jnp.abs(excess[0])})
        temperature, _ = adam.step(state.temperature, combined)
        metrics = metrics | {"temperature": _temperature(state)}
        return state._replace(actor=actor, temperature=temperature), metrics

    if number is None:
        state, of_actor = improve(state)
    else:
        due = number % config.policy_delay == config.policy_delay - 1
        state, of_actor = off_policy.where_due(due, improve, state)
    target = state.target
    if not parts.measured:
        target = target + config.tau * (critic.params - target)
    return state._replace(critic=critic, target=target), metrics | of_actor


def _with_statistics(vector: Array, statistics: PyTree) -> Array:
    """Put a network's statistics behind what is trained of its vector."""
    behind = ravel_pytree(statistics)[0]
    return jnp.concatenate([vector[: -behind.size], behind])


def _temperature(state: State) -> Array:
    return jnp.exp(state.temperature.params[0])


def _noise(key: Array, action: Array) -> Array:
    """Standard normal numbers of two actions for each transition, ``[2, *action.shape]``."""
    return normal_of(random_words(key, (2, *action.shape)))


def _batches(
    parts: Parts, state: State, batch: Transition, noise: Array
) -> tuple[Judged | Followed, Acted]:
    """Arguments of both losses, made of transitions ``[..., ]``, with the critics' targets."""
    config, policy, critics = parts.config, parts.actor.network, parts.critic.network
    acted = Acted(batch.obs, noise[1])
    variables = policy.unravel(state.actor.params)
    following = parts.head.of(policy.apply(variables, batch.next_obs))
    action, log_prob = following.transform(noise[0])
    bonus = _temperature(state) * log_prob
    gamma = batch.extras if config.n_step > 1 else config.gamma
    reward = config.reward_scale * batch.reward
    if parts.measured:
        gamma = jnp.broadcast_to(gamma, reward.shape)
        return Followed(
            batch.obs, batch.action, batch.next_obs, action, reward, batch.terminated, -bonus, gamma
        ), acted
    judged = critics.apply(critics.unravel(state.target), (batch.next_obs, action))
    target = off_policy.td_target(reward, batch.terminated, judged.min(0) - bonus, gamma)
    return Judged(batch.obs, batch.action, target), acted


def _critic_loss(
    parts: Parts, variables: Variables, batch: Judged | Followed
) -> tuple[Array, Metrics]:
    """Half the squared errors of both critics on one variation's batch, leaves ``[B, ...]``."""
    if isinstance(batch, Judged):
        values = parts.critic.network.apply(variables, (batch.obs, batch.action))
        return _squared_errors(values, batch.target)
    assert parts.measured is not None
    both = (
        jnp.concatenate([batch.obs, batch.next_obs]),
        jnp.concatenate([batch.action, batch.next_action]),
    )
    # One pass: statistics are of both steps, whose actions differ.
    values, statistics = parts.measured(variables, both)
    values, following = jnp.split(values, 2, axis=-1)
    target = off_policy.td_target(
        batch.reward, batch.terminated, following.min(0) + batch.bonus, batch.gamma
    )
    loss, metrics = _squared_errors(values, jax.lax.stop_gradient(target))
    return loss, metrics | {STATISTICS: jax.lax.stop_gradient(statistics)}


def _squared_errors(values: Array, target: Array) -> tuple[Array, Metrics]:
    loss = 0.5 * jnp.square(values - target[None]).mean(-1).sum()
    return loss, {"loss": loss, "q": values.mean()}


def _policy_loss(
    parts: Parts, critics: Variables, temperature: Array, variables: Variables, batch: Acted
) -> tuple[Array, Metrics]:
    """Temperature times log-density, less the lower value, of one variation's batch."""
    distribution = parts.head.of(parts.actor.network.apply(variables, batch.obs))
    action, log_prob = distribution.transform(batch.noise)
    values = parts.critic.network.apply(critics, (batch.obs, action))
    loss = (temperature * log_prob - values.min(0)).mean()
    return loss, {"loss": loss, "log_prob": log_prob.mean()}

"""Soft actor-critic (Haarnoja et al. 2018b): two critics, a squashed normal policy, a temperature.

Truncations bootstrap from the true successor, terminations do not. Rings, sampling and the start of
learning are those of `jaxgen.algorithms.off_policy`; until then actions are uniform. The critics
are the primary group of parameters, as they learn from rewards; the policy is the group ``actor``,
whose variations' gradients are combined by their own agreement. The temperature descends along the
mean over variations.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.algorithms import off_policy
from jaxgen.algorithms.base import Algorithm, RolloutShape, box_actions
from jaxgen.algorithms.gradients import Combined
from jaxgen.algorithms.learner import Adam, Learner, Optimizer, decay_of
from jaxgen.nn import networks
from jaxgen.nn.distributions import Head, TanhNormal, policy_of, squashed
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Network, Variables
from jaxgen.nn.random import normal_of, random_words, uniform_of
from jaxgen.study.config import SACConfig
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, PyTree, Transition

NOISE_KEY = 0x736163
"""Key of the noise of the probe, which is the same at each point; samples have their own."""


class State(NamedTuple):
    """State of training."""

    actor: Optimizer
    critic: Optimizer
    target: Array
    """Vector of the target critics, float32 ``[D]``."""
    temperature: Optimizer
    """Its logarithm, float32 ``[1]``."""
    ring: PyTree
    """Transitions as the replay keeps them, leaves ``[V, ring size, ...]``."""


class Actor(NamedTuple):
    """The behaviour policy of an iteration."""

    variables: Variables
    explores: Array
    """Whether actions are uniform, as nothing is learned yet."""


class Judged(NamedTuple):
    """Arguments of the critics' loss; leaves ``[V, B, ...]``."""

    obs: Array
    action: Array
    target: Array


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
        return State(
            parts.actor.init(actor_key), critic, critic.params + 0.0,
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
            critics, partial(_critic_loss, parts.critic.network), judged
        ) | parts.actor.half_gradients(actor.variables, policy_loss, acted)

    return Algorithm(
        init=init,
        prepare=prepare,
        act=act,
        policy=policy_of(
            parts.head, lambda params, obs: policy.apply(policy.unravel(params), obs)
        ),
        params=lambda state: state.actor.params,
        record=store.record,
        update=off_policy.replayed(
            config, store, lambda _: partial(_learn, parts, temperature), draws=True
        ),
        half_gradients=half_gradients,
        shape=RolloutShape(config.num_envs, config.num_steps, num_starts=config.num_envs),
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
    critics = networks.critics(spec, config.hidden, **options)
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps)
    return Parts(
        config, head, Learner(technique, adam, policy, group="actor"),
        Learner(technique, adam, critics),
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
    noise_key, technique_key = jax.random.split(key)
    judged, acted = _batches(parts, state, batch, _noise(noise_key, batch.action))
    critic, metrics = parts.critic.step(
        state.critic, partial(_critic_loss, parts.critic.network), judged, technique_key
    )
    critics = parts.critic.network.unravel(critic.params)
    actor, of_actor = parts.actor.step(
        state.actor, partial(_policy_loss, parts, critics, _temperature(state)), acted,
        technique_key,
    )  # fmt: skip
    target_entropy = -parts.config.target_entropy * batch.action.shape[-1]
    # Of minus log-temperature times (log-density + target), whose mean over variations it is.
    excess = -(of_actor["actor/log_prob"] + target_entropy)[None]
    combined = Combined(excess, jnp.bool_(True), {"grad_norm": jnp.abs(excess[0])})
    temperature, _ = adam.step(state.temperature, combined)
    target = state.target + parts.config.tau * (critic.params - state.target)
    metrics = metrics | of_actor | {"temperature": _temperature(state)}
    return State(actor, critic, target, temperature, state.ring), metrics


def _temperature(state: State) -> Array:
    return jnp.exp(state.temperature.params[0])


def _noise(key: Array, action: Array) -> Array:
    """Standard normal numbers of two actions for each transition, ``[2, *action.shape]``."""
    return normal_of(random_words(key, (2, *action.shape)))


def _batches(
    parts: Parts, state: State, batch: Transition, noise: Array
) -> tuple[Judged, Acted]:
    """Arguments of both losses, made of transitions ``[..., ]``, with the critics' targets."""
    config, policy, critics = parts.config, parts.actor.network, parts.critic.network
    variables = policy.unravel(state.actor.params)
    following = parts.head.of(policy.apply(variables, batch.next_obs))
    action, log_prob = following.transform(noise[0])
    judged = critics.apply(critics.unravel(state.target), (batch.next_obs, action))
    value = judged.min(0) - _temperature(state) * log_prob
    gamma = batch.extras if config.n_step > 1 else config.gamma
    reward = config.reward_scale * batch.reward
    target = off_policy.td_target(reward, batch.terminated, value, gamma)
    return Judged(batch.obs, batch.action, target), Acted(batch.obs, noise[1])


def _critic_loss(
    network: Network, variables: Variables, batch: Judged
) -> tuple[Array, Metrics]:
    """Half the squared errors of both critics on one variation's batch, leaves ``[B, ...]``."""
    values = network.apply(variables, (batch.obs, batch.action))
    loss = 0.5 * jnp.square(values - batch.target[None]).mean(-1).sum()
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

"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018), and DDPG as one case.

The policy is a point, to which exploration adds noise. The critics learn from the lower value of
the target policy's action, to which clipped noise is added; the policy and all targets move with
every ``policy_delay``-th update. Actions and noise are in [-1, 1], half the range of the task's
being the unit. Truncations bootstrap from the true successor, terminations do not. Rings, sampling
and the start of learning are those of `jaxgen.algorithms.off_policy`; until then actions are
uniform. The critics are the primary group of parameters; the policy is the group ``actor``.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.algorithms import off_policy
from jaxgen.algorithms.base import Algorithm, RolloutShape, box_actions
from jaxgen.algorithms.learner import Adam, Learner, Optimizer, decay_of
from jaxgen.algorithms.off_policy import Actor, Judged
from jaxgen.nn import networks
from jaxgen.nn.critics import make_critics
from jaxgen.nn.distributions import Head, Point, pointed
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Network, Variables
from jaxgen.nn.random import normal_of, random_words, uniform_of
from jaxgen.study.config import TD3Config
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, Policy, PyTree, Transition

NOISE_KEY = 0x746433
"""Key of the noise of the probe, which is the same at each point; samples have their own."""


class State(NamedTuple):
    """State of training."""

    actor: Optimizer
    critic: Optimizer
    actor_target: Array
    """Vector of the target policy, float32 ``[D]``."""
    critic_target: Array
    """Vector of the target critics, float32 ``[D]``."""
    ring: PyTree
    """Transitions as the replay keeps them, leaves ``[V, ring size, ...]``."""


class Parts(NamedTuple):
    """The parts that all functions of the algorithm share."""

    config: TD3Config
    head: Head[Point]
    actor: Learner
    critic: Learner

    def act(self, variables: Variables, obs: Array) -> Array:
        """The policy's actions, float32 ``[..., A]``."""
        return self.head.of(self.actor.network.apply(variables, obs)).best()


def make_td3(config: TD3Config, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build TD3; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    parts = _make_parts(config, technique, spec)
    policy, store = parts.actor.network, off_policy.make_replay(config, spec)

    def init(key: Array) -> State:
        actor_key, critic_key = jax.random.split(key)
        actor, critic = parts.actor.init(actor_key), parts.critic.init(critic_key)
        # Targets start as copies with buffers of their own, so that a carry can be donated.
        return State(actor, critic, actor.params + 0.0, critic.params + 0.0, store.init())

    def prepare(state: State, iteration: Array, key: Array) -> Actor:
        before = iteration * config.steps_per_iteration
        return Actor(policy.unravel(state.actor.params), before < config.learning_starts)

    def explored(variables: Variables, obs: Array, words: Array) -> Array:
        noise = config.exploration_noise * normal_of(words)
        return jnp.clip(parts.act(variables, obs) + noise, -1, 1)

    def act(actor: Actor, obs: Array, words: Array) -> tuple[Array, PyTree]:
        chosen = explored(actor.variables, obs, words)
        return jax.lax.select(actor.explores, 2 * uniform_of(words) - 1, chosen), ()

    def half_gradients(state: State, actor: Actor, rollout: Transition) -> dict[str, Array]:
        """Take the losses on the rollout itself, not on the replay; see `Algorithm`."""
        transitions = off_policy.unpacked(spec, off_policy.several_steps(config, rollout))
        judged = _judged(parts, state, transitions, jax.random.key(NOISE_KEY))
        critics = parts.critic.network.unravel(state.critic.params)
        return parts.critic.half_gradients(
            critics, partial(_critic_loss, parts.critic.network), judged
        ) | parts.actor.half_gradients(
            actor.variables, partial(_policy_loss, parts, critics), transitions.obs
        )

    replayed = off_policy.replayed(
        config, store, lambda _: partial(_learn, parts), draws=True, numbered=True
    )
    return Algorithm(
        init=init,
        prepare=prepare,
        act=act,
        policy=Policy(
            best=lambda params, obs: parts.act(policy.unravel(params), obs),
            draw=lambda params, obs, words: explored(policy.unravel(params), obs, words),
            num_words=parts.head.num_outputs,
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


def _make_parts(config: TD3Config, technique: Technique, spec: EnvSpec) -> Parts:
    head = pointed(box_actions(config.algorithm, spec))
    options: dict[str, Any] = {
        "activation": ACTIVATIONS[config.activation],
        "initialisation": config.initialisation,
    }
    policy = networks.mlp(
        spec, head.num_outputs, config.hidden, encoding="raw", head_scale=1.0, **options
    )
    critics = make_critics(spec, config.hidden, num=config.num_critics, **options)
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps)
    return Parts(
        config, head, Learner(technique, adam, policy, group="actor"),
        Learner(technique, adam, critics),
    )  # fmt: skip


def _learn(
    parts: Parts, state: State, batch: Transition, key: Array | None, number: Array | None
) -> tuple[State, Metrics]:
    """Make one update: the critics, then with every ``policy_delay``-th the policy and targets."""
    assert key is not None and number is not None
    noise_key, technique_key = jax.random.split(key)
    judged = _judged(parts, state, batch, noise_key)
    critic, metrics = parts.critic.step(
        state.critic, partial(_critic_loss, parts.critic.network), judged, technique_key
    )
    state = state._replace(critic=critic)

    def move(state: State) -> tuple[State, Metrics]:
        critics = parts.critic.network.unravel(state.critic.params)
        actor, of_actor = parts.actor.step(
            state.actor, partial(_policy_loss, parts, critics), batch.obs, technique_key
        )
        tau = parts.config.tau
        return state._replace(
            actor=actor,
            actor_target=state.actor_target + tau * (actor.params - state.actor_target),
            critic_target=state.critic_target + tau * (critic.params - state.critic_target),
        ), of_actor

    delay = parts.config.policy_delay
    state, of_actor = off_policy.where_due(number % delay == delay - 1, move, state)
    return state, metrics | of_actor


def _judged(parts: Parts, state: State, batch: Transition, key: Array) -> Judged:
    """Arguments of the critics' loss, made of transitions ``[..., ]``."""
    config, network = parts.config, parts.critic.network
    target_policy = parts.actor.network.unravel(state.actor_target)
    action = parts.act(target_policy, batch.next_obs)
    noise = config.target_noise * normal_of(random_words(key, action.shape))
    limit = config.target_noise_clip
    action = jnp.clip(action + jnp.clip(noise, -limit, limit), -1, 1)
    values = network.apply(network.unravel(state.critic_target), (batch.next_obs, action))
    gamma = batch.extras if config.n_step > 1 else config.gamma
    reward = config.reward_scale * batch.reward
    target = off_policy.td_target(reward, batch.terminated, values.min(0), gamma)
    return Judged(batch.obs, batch.action, target)


def _critic_loss(
    network: Network, variables: Variables, batch: Judged
) -> tuple[Array, Metrics]:
    """Squared errors of the critics on one variation's batch, leaves ``[B, ...]``, added up."""
    values = network.apply(variables, (batch.obs, batch.action))
    loss = jnp.square(values - batch.target[None]).mean(-1).sum()
    return loss, {"loss": loss, "q": values.mean()}


def _policy_loss(
    parts: Parts, critics: Variables, variables: Variables, obs: Array
) -> tuple[Array, Metrics]:
    """Minus the first critic's value of the policy's actions in one variation's batch."""
    values = parts.critic.network.apply(critics, (obs, parts.act(variables, obs)))
    loss = -values[0].mean()
    return loss, {"loss": loss}

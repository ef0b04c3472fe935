"""Deep Q-learning (Mnih et al. 2015) with double-Q targets (van Hasselt et al. 2016).

One target network. Truncations bootstrap, terminations do not. Rings, sampling and the
start of learning are those of `jaxgen.algorithms.off_policy`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.algorithms import off_policy
from jaxgen.algorithms.base import Algorithm, Critic, Replayed, RolloutShape, discrete_actions
from jaxgen.algorithms.learner import Adam, Learner, Optimizer, decay_of
from jaxgen.algorithms.replay import Replay
from jaxgen.nn import networks, ops
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Network, Variables
from jaxgen.nn.random import uniform_of
from jaxgen.study.config import DQNConfig
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, Policy, PyTree, Transition

EVALUATION_EPSILON = 0.05
"""Exploration of the sampled mode of evaluation."""


class State(NamedTuple):
    """State of training."""

    online: Optimizer
    target: Array
    """Vector of the target network, float32 ``[D]``."""
    ring: PyTree
    """Transitions as the replay keeps them, leaves ``[V, ring size, ...]``."""


class Actor(NamedTuple):
    """The behaviour policy of an iteration."""

    variables: Variables
    epsilon: Array


class Batch(NamedTuple):
    """Arguments of the loss; leaves ``[V, B, ...]``."""

    obs: Array
    action: Array
    target: Array


def make_dqn(config: DQNConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build DQN; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    network = networks.single(
        spec, discrete_actions(config.algorithm, spec).num, config.hidden, network=config.network,
        encoding=config.encoding, head_scale=1.0,
        activation=ACTIVATIONS[config.activation],
    )
    store = off_policy.make_replay(config, spec)
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps, config.max_grad_norm)
    learner, loss = Learner(technique, adam, network), partial(_loss, network)

    def init(key: Array) -> State:
        online = learner.init(key)
        # The target starts as a copy with a buffer of its own, so that a carry can be donated.
        return State(online, online.params + 0.0, store.init())

    def prepare(state: State, iteration: Array, key: Array) -> Actor:
        epsilon = linear_epsilon(config, iteration * config.steps_per_iteration)
        return Actor(network.unravel(state.online.params), epsilon)

    def act(actor: Actor, obs: Array, words: Array) -> tuple[Array, PyTree]:
        uniform = uniform_of(words.squeeze(-1))
        return ops.epsilon_greedy(network.apply(actor.variables, obs), uniform, actor.epsilon), ()

    replayed = _replayed(config, learner, store)

    def half_gradients(state: State, actor: Actor, rollout: Transition) -> dict[str, Array]:
        """Take the loss on the rollout itself, not on the replay; see `Algorithm`."""
        transitions = off_policy.several_steps(config, _flawed(config, rollout))
        transitions = off_policy.unpacked(spec, transitions)
        target = network.unravel(state.target)
        batch = _make_batch(config, network, actor.variables, target, transitions)
        return learner.half_gradients(actor.variables, loss, batch)

    return Algorithm(
        init=init,
        prepare=prepare,
        act=act,
        policy=_policy(network),
        params=lambda state: state.online.params,
        record=store.record,
        update=partial(replayed.update, config.num_envs * config.num_steps),
        half_gradients=half_gradients,
        shape=RolloutShape(config.num_envs, config.num_steps, num_starts=config.num_envs),
        in_turn=network.in_turn, replayed=replayed, fork=partial(off_policy.forked, config),
        unravel=network.unravel,
        critic=Critic(lambda state: state.online.params, partial(_values, network)),
    )


def _values(network: Network, vector: Array, obs: Array, action: Array) -> Array:
    chosen = action[..., None]
    return jnp.take_along_axis(network.apply(network.unravel(vector), obs), chosen, -1)[..., 0]


def _replayed(config: DQNConfig, learner: Learner, store: Replay) -> Replayed:
    """Make the update: what a replay teaches, statistics, and the copy into the target network."""
    network = learner.network
    learned = off_policy.replayed(
        config, store, partial(_learn_from, config, learner), draws=learner.draws
    )

    def learn(
        state: State, actor: Actor, inserted: Array, iteration: Array, key: Array
    ) -> tuple[State, Metrics]:
        state, metrics = learned.learn(state, actor, inserted, iteration, key)
        online, before = state.online, iteration * config.steps_per_iteration
        if network.refresh is not None:
            obs = off_policy.newest_observations(config, store, state.ring, iteration)
            online = learner.refresh(online, obs)
        after = before + config.steps_per_iteration
        copy = jnp.greater(after // config.target_interval, before // config.target_interval)
        target = jax.lax.select(copy, online.params, state.target)
        return State(online, target, state.ring), metrics | {"epsilon": actor.epsilon}

    def insert(ring: Any, rollout: Any, before: Array) -> Any:
        return learned.insert(ring, _flawed(config, rollout), before)

    return Replayed(insert, learn)


def _learn_from(config: DQNConfig, learner: Learner, state: State) -> off_policy.Learn:
    """Make the update of an iteration's batches, in which the target network does not change."""
    network = learner.network
    target, loss = network.unravel(state.target), partial(_loss, network)

    def learn(
        state: State, batch: Transition, key: Array | None, number: Array | None
    ) -> tuple[State, Metrics]:
        # Targets are made batch by batch, so that they stay in the cache.
        online = network.unravel(state.online.params)
        with_targets = _make_batch(config, network, online, target, batch)
        optimizer, metrics = learner.step(state.online, loss, with_targets, key)
        return state._replace(online=optimizer), metrics

    return learn


def _policy(network: Network) -> Policy:
    """Take the action of the highest value, or with `EVALUATION_EPSILON` a uniform one."""

    def values(params: PyTree, obs: Array) -> Array:
        return network.apply(network.unravel(params), obs)

    def draw(params: PyTree, obs: Array, words: Array) -> Array:
        uniform = uniform_of(words.squeeze(-1))
        return ops.epsilon_greedy(values(params, obs), uniform, EVALUATION_EPSILON)

    return Policy(lambda params, obs: ops.greedy(values(params, obs)), draw, scores=values)


def _make_batch(
    config: DQNConfig, network: Network, online: Variables, target: Variables,
    transition: Transition,
) -> Batch:
    """Make a batch with double Q-learning's targets (van Hasselt et al. 2016)."""
    judged = network.apply(target, transition.next_obs)
    best = network.apply(online, transition.next_obs).argmax(-1)
    reward = config.reward_scale * transition.reward
    gamma = transition.extras if config.n_step > 1 else config.gamma
    targets = off_policy.td_target(reward, transition.terminated, ops.chosen(judged, best), gamma)
    return Batch(transition.obs, transition.action, targets)


def _loss(network: Network, variables: Variables, batch: Batch) -> tuple[Array, Metrics]:
    """The loss of one variation's batch, leaves ``[B, ...]``."""
    value = ops.chosen(network.apply_in_loss(variables, batch.obs), batch.action)
    error = ops.huber(value - batch.target).mean()
    return error, {"loss": error, "q": value.mean()}


def _flawed(config: DQNConfig, rollout: Any) -> Any:
    """Make the mistakes that a configuration asks for in transitions ``[T, V, N, ...]``."""
    if not isinstance(rollout, Transition):
        return rollout
    if not config.true_successors:
        following = jnp.concatenate([rollout.obs[1:], rollout.next_obs[-1:]])
        rollout = rollout._replace(next_obs=following)
    if not config.bootstrap_truncations:
        rollout = rollout._replace(terminated=rollout.terminated | rollout.truncated)
    return rollout


def linear_epsilon(config: DQNConfig, env_steps: Array) -> Array:
    """Epsilon after ``env_steps``: linear over the first share of the budget, then fixed."""
    share = env_steps / (config.epsilon_fraction * config.total_steps)
    change = config.epsilon_end - config.epsilon_start
    return config.epsilon_start + change * jnp.clip(share, 0, 1)

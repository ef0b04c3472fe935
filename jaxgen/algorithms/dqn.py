"""Deep Q-learning (Mnih et al. 2015) with double-Q targets (van Hasselt et al. 2016).

One replay ring per variation, equal batches from each, one target network. The
replay ratio (sampled transitions per environment step) is explicit and does not
change with the number of environments. Truncations bootstrap, terminations do not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgen.algorithms import replay
from jaxgen.algorithms.base import (
    Adam,
    Algorithm,
    Optimizer,
    decay_of,
    discrete_actions,
    mean_metrics,
)
from jaxgen.algorithms.gradients import half_gradients, variation_gradient
from jaxgen.algorithms.image_replay import is_possible, of_images
from jaxgen.algorithms.replay import Replay
from jaxgen.nn import networks, ops
from jaxgen.nn.networks import Network
from jaxgen.nn.random import uniform_of
from jaxgen.study.config import DQNConfig
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, Policy, PyTree, Transition

EVALUATION_EPSILON = 0.05
"""Exploration of the sampled mode of evaluation."""


class State(NamedTuple):
    """What training carries."""

    online: Optimizer
    target: Array
    """Parameters of the target network, float32 ``[D]``."""
    ring: Transition
    """Leaves ``[V, ring size, ...]``."""


class Actor(NamedTuple):
    """The behaviour policy of an iteration."""

    tree: PyTree
    epsilon: Array


class Batch(NamedTuple):
    """What the loss reads; leaves ``[V, B, ...]``."""

    obs: Array
    action: Array
    target: Array


def make_dqn(config: DQNConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build DQN; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    network = networks.single(
        spec, discrete_actions("dqn", spec).num, config.hidden, network=config.network,
        encoding=config.encoding, head_scale=1.0,
        activation=networks.ACTIVATIONS[config.activation],
    )
    store = _make_replay(config, spec)
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps, config.max_grad_norm)

    def init(key: Array) -> State:
        params = network.init(key)
        # The target starts as a copy with a buffer of its own, so that a carry can be donated.
        return State(adam.init(params), params + 0.0, store.init())

    def prepare(state: State, iteration: Array, key: Array) -> Actor:
        epsilon = linear_epsilon(config, iteration * config.steps_per_iteration)
        return Actor(network.unravel(state.online.params), epsilon)

    def act(actor: Actor, obs: Array, words: Array) -> tuple[Array, PyTree]:
        uniform = uniform_of(words.squeeze(-1))
        return ops.epsilon_greedy(network.apply(actor.tree, obs), uniform, actor.epsilon), ()

    # Compiled as a function of its own only so that it is traced once, not twice.
    learn = jax.jit(partial(_learn, config, technique, store, network, adam), inline=True)

    def update(
        state: State, actor: Actor, rollout: Any, iteration: Array, key: Array
    ) -> tuple[State, Metrics]:
        state = state._replace(ring=store.insert(state.ring, rollout, iteration))
        before = iteration * config.steps_per_iteration
        after = before + config.steps_per_iteration
        inserted = after // config.num_variations

        def rest(state: State, key: Array, inserted: Array) -> tuple[Optimizer, Metrics]:
            shapes = jax.eval_shape(learn, state, key, inserted)[1]
            absent = {name: jnp.full((), jnp.nan, leaf.dtype) for name, leaf in shapes.items()}
            none = {name: jnp.zeros_like(absent[name]) for name in ("updates", "skipped_updates")}
            return state.online, absent | none

        online, metrics = jax.lax.cond(
            after >= config.learning_starts, learn, rest, state, key, inserted
        )
        copy = jnp.greater(after // config.target_interval, before // config.target_interval)
        target = jax.lax.select(copy, online.params, state.target)
        return State(online, target, state.ring), metrics | {"epsilon": actor.epsilon}

    return Algorithm(
        init=init,
        prepare=prepare,
        act=act,
        policy=_policy(network),
        params=lambda state: state.online.params,
        record=store.record,
        update=update,
        half_gradients=partial(_half_gradients, config, spec, network),
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        in_turn=config.network != "mlp",
    )


def _policy(network: Network) -> Policy:
    """Take the action of the highest value, or with `EVALUATION_EPSILON` a uniform one."""

    def values(params: PyTree, obs: Array) -> Array:
        return network.apply(network.unravel(params), obs)

    def draw(params: PyTree, obs: Array, words: Array) -> Array:
        uniform = uniform_of(words.squeeze(-1))
        return ops.epsilon_greedy(values(params, obs), uniform, EVALUATION_EPSILON)

    return Policy(lambda params, obs: ops.greedy(values(params, obs)), draw, scores=values)


def _learn(
    config: DQNConfig, technique: Technique, store: Replay, network: Network, adam: Adam,
    state: State, key: Array, inserted: Array,
) -> tuple[Optimizer, Metrics]:
    """The updates of an iteration, when so many transitions were inserted into each ring."""
    shape = (config.updates_per_iteration, config.num_variations, config.batch_per_variation)
    index = store.draw(key, shape, inserted)
    frozen = network.unravel(state.target)
    loss = partial(_loss, network)

    def step(online: Optimizer, fetched: PyTree) -> tuple[Optimizer, Metrics]:
        tree = network.unravel(online.params)
        # Targets not for all updates at once, although the frozen network rests: small products
        # stay in the cache.
        sampled = store.complete(state.ring, fetched)
        batch = _make_batch(config, network, tree, frozen, sampled)
        in_turn = config.network != "mlp"
        combined, metrics = variation_gradient(technique, loss, tree, batch, in_turn=in_turn)
        online, agreement = adam.step(online, combined)
        return online, metrics | agreement

    online, metrics = jax.lax.scan(step, state.online, store.fetch(state.ring, index))
    return online, mean_metrics(metrics)


def _half_gradients(
    config: DQNConfig, spec: EnvSpec, network: Network,
    state: State, actor: Actor, rollout: Transition,
) -> Array:
    """Of the loss on a rollout of its own, not on the replay; see `Algorithm`."""
    frozen = network.unravel(state.target)
    kept = _map_observations(replay.unpack, spec, _kept(config, rollout))
    batch = _make_batch(config, network, actor.tree, frozen, kept)
    return half_gradients(partial(_loss, network), actor.tree, batch)


def _make_batch(
    config: DQNConfig, network: Network, tree: PyTree, frozen: PyTree, transition: Transition
) -> Batch:
    """What the loss reads: double Q-learning's targets (van Hasselt et al. 2016)."""
    frozen_values = network.apply(frozen, transition.next_obs)
    chosen = network.apply(tree, transition.next_obs).argmax(-1)
    scaled = transition._replace(reward=config.reward_scale * transition.reward)
    gamma = transition.extras if config.n_step > 1 else config.gamma
    target = td_target(scaled, ops.chosen(frozen_values, chosen), gamma)
    return Batch(transition.obs, transition.action, target)


def _loss(network: Network, tree: PyTree, batch: Batch) -> tuple[Array, Metrics]:
    """The loss of one variation's batch, leaves ``[B, ...]``."""
    value = ops.chosen(network.apply(tree, batch.obs), batch.action)
    error = ops.huber(value - batch.target).mean()
    return error, {"loss": error, "q": value.mean()}


def td_target(transition: Transition, next_value: Array, gamma: Array | float) -> Array:
    """Target ``r + gamma (1 - terminated) v'``; a truncation bootstraps."""
    chex.assert_equal_shape([transition.reward, transition.terminated, next_value])
    chex.assert_type([transition.reward, transition.terminated, next_value], [float, bool, float])
    return transition.reward + gamma * (1.0 - transition.terminated) * next_value


def _kept(config: DQNConfig, rollout: Transition) -> Transition:
    """What the ring keeps of a rollout, leaves ``[T, V, N, ...]``."""
    if not config.true_successors:
        following = jnp.concatenate([rollout.obs[1:], rollout.next_obs[-1:]])
        rollout = rollout._replace(next_obs=following)
    if not config.bootstrap_truncations:
        rollout = rollout._replace(terminated=rollout.terminated | rollout.truncated)
    return n_step(rollout, config.n_step, config.gamma) if config.n_step > 1 else rollout


def n_step(rollout: Transition, num_steps: int, gamma: float) -> Transition:
    """Add up the rewards of up to ``num_steps`` steps of an episode (Sutton and Barto 2018, 7.1).

    The sums stop where an episode or the rollout ends.

    Args:
      rollout: one-step transitions, leaves ``[T, V, N, ...]``.
      num_steps: n.
      gamma: discount of a step.

    Returns:
      Transitions to where each sum stops; ``extras`` is the discount there, float32 ``[T, V, N]``.
    """
    chex.assert_rank(rollout.reward, 3)
    chex.assert_equal_shape([rollout.reward, rollout.terminated, rollout.truncated])
    length = rollout.reward.shape[0]
    time = jnp.arange(length).reshape(-1, 1, 1)
    done = rollout.terminated | rollout.truncated
    last, total = jnp.broadcast_to(time, done.shape), rollout.reward
    runs = ~done
    for step in range(1, num_steps):
        runs = runs & (time + step < length)
        total = total + jnp.where(runs, gamma**step * jnp.roll(rollout.reward, -step, 0), 0.0)
        last = jnp.where(runs, time + step, last)
        runs = runs & ~jnp.roll(done, -step, 0)

    def at_last(leaf: Array) -> Array:
        index = last.reshape(last.shape + (1,) * (leaf.ndim - last.ndim))
        return jnp.take_along_axis(leaf, index, 0)

    return rollout._replace(
        reward=total,
        terminated=at_last(rollout.terminated),
        truncated=at_last(rollout.truncated),
        next_obs=at_last(rollout.next_obs),
        extras=gamma ** (last - time + 1).astype(jnp.float32),
    )


def linear_epsilon(config: DQNConfig, env_steps: Array) -> Array:
    """Epsilon after ``env_steps``: linear over the first share of the budget, then fixed."""
    done = env_steps / (config.epsilon_fraction * config.total_steps)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * jnp.clip(done, 0, 1)


def _make_replay(config: DQNConfig, spec: EnvSpec) -> Replay:
    """Of single images where these make up everything; of whole transitions elsewhere."""
    if is_possible(spec):
        if config.n_step > 1:
            raise ValueError(
                f"n_step = {config.n_step} is not allowed on {spec.name}, whose replay stores "
                "single images; use 1"
            )
        return of_images(
            spec, config.num_frames, config.num_variations, config.num_envs, config.ring_size
        )
    pack = partial(_map_observations, replay.pack, spec)
    unpack = partial(_map_observations, replay.unpack, spec)

    def draw(key: Array, shape: tuple[int, ...], inserted: Array) -> Array:
        return jax.random.randint(key, shape, 0, jnp.minimum(inserted, config.ring_size))

    return Replay(
        record=pack,
        init=lambda: replay.init(
            pack(_example(config, spec)), config.num_variations, config.ring_size
        ),
        insert=lambda ring, rollout, iteration: replay.insert(
            ring, _kept(config, rollout), iteration
        ),
        draw=draw,
        fetch=replay.sample,
        complete=lambda ring, fetched: unpack(fetched),
    )


def _example(config: DQNConfig, spec: EnvSpec) -> Transition:
    obs = jnp.zeros(spec.obs_shape, spec.obs_dtype)
    flag = jnp.zeros((), bool)
    extras = jnp.float32(0) if config.n_step > 1 else ()
    action = jnp.zeros(spec.actions.shape, spec.actions.dtype)
    return Transition(obs, action, jnp.float32(0), flag, flag, obs, extras)


def _map_observations(
    change: Callable[[EnvSpec, Array], Array], spec: EnvSpec, transition: Transition
) -> Transition:
    obs, next_obs = (change(spec, each) for each in (transition.obs, transition.next_obs))
    return transition._replace(obs=obs, next_obs=next_obs)

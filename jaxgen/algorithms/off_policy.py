"""Parts shared by algorithms that learn from a replay: rings, sampling, and when learning starts.

One ring per variation, equal batches from each. The replay ratio (sampled transitions
per environment step) is explicit and does not change with the number of environments.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from jaxgen.algorithms import image_replay, replay
from jaxgen.algorithms.base import Critic, Replayed
from jaxgen.algorithms.learner import mean_metrics, update_keys
from jaxgen.algorithms.replay import Replay
from jaxgen.nn.networks import Network, Variables
from jaxgen.study.config import OffPolicyConfig
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, EnvSpec, Metrics, PyTree, Transition


class Actor(NamedTuple):
    """The behaviour policy of an iteration, of actions in a Box."""

    variables: Variables
    explores: Array
    """Whether actions are uniform, as nothing is learned yet."""


class Judged(NamedTuple):
    """Arguments of the critics' loss; leaves ``[V, B, ...]``."""

    obs: Array
    action: Array
    target: Array


class Learn(Protocol):
    """One update from one sampled batch."""

    def __call__(
        self, state: Any, batch: Transition, key: Array | None, number: Array | None
    ) -> tuple[Any, Metrics]:
        """Return the next state and the update's metrics.

        Args:
          state: the algorithm's; its ``ring`` is empty.
          batch: transitions ``[V, B, ...]``; with ``n_step`` above 1 their ``extras`` are the
            discounts of the bootstrapped values.
          key: randomness of this update, if it draws.
          number: of this update if updates are numbered, counted from the first iteration on.
        """
        ...


def replayed(
    config: OffPolicyConfig,
    store: Replay,
    learn_from: Callable[[Any], Learn],
    *,
    draws: bool = False,
    numbered: bool = False,
) -> Replayed:
    """Make the parts of an algorithm's update of what it learns from one batch.

    The update inserts the rollout, then learns from ``updates_per_iteration`` batches, or rests
    until ``first_update``: its metrics are then NaN, and its numbers of updates 0.

    Args:
      config: the algorithm's.
      store: how it keeps transitions.
      learn_from: state before an iteration's updates -> what makes each of them. Whatever stays
        the same within an iteration, such as the tree of a target network, is made once there.
      draws: whether an update needs a key.
      numbered: whether it needs its number; a metric may then be NaN where it was not measured,
        and its mean is over the updates that measured it.

    Returns:
      The parts, of states that hold the rings ``[V, size, ...]`` in a field ``ring``.
    """

    def updates(learned: Any, ring: PyTree, inputs: Any) -> tuple[Any, Metrics]:
        learn = learn_from(learned)

        def step(learned: Any, inputs: Any) -> tuple[Any, Metrics]:
            fetched, update_key, number = inputs
            return learn(learned, store.complete(ring, fetched), update_key, number)

        learned, metrics = jax.lax.scan(step, learned, inputs)
        return learned, mean_metrics(metrics, jnp.nanmean if numbered else jnp.mean)

    def learn_now(
        state: Any, actor: Any, inserted: Array, iteration: Array, key: Array
    ) -> tuple[Any, Metrics]:
        del actor
        ring = state.ring
        after = iteration * config.steps_per_iteration + config.steps_per_iteration
        shape = (config.updates_per_iteration, config.num_variations, config.batch_per_variation)
        index = store.draw(key, shape, inserted)
        # Looked up before it is known whether it is due: a loop that did it would copy the ring.
        first = iteration * config.updates_per_iteration
        numbers = first + jnp.arange(shape[0]) if numbered else None
        inputs = store.fetch(ring, index), update_keys(key, shape[0], draws), numbers
        learned, metrics = where_due(
            after >= config.first_update, lambda learned: updates(learned, ring, inputs),
            state._replace(ring=()),
        )  # fmt: skip
        return learned._replace(ring=ring), metrics

    return Replayed(store.insert, learn_now)


def where_due(
    due: Array, learn: Callable[[Any], tuple[Any, Metrics]], state: Any
) -> tuple[Any, Metrics]:
    """Learn where it is due; else the state stays, metrics are NaN and numbers of updates 0.

    It is a loop of one turn or none: what a condition returns is a copy, here of all parameters.

    Args:
      due: bool ``[]``, common to all lanes.
      learn: state -> state, metrics.
      state: before.
    """
    learn = jax.jit(learn, inline=True)  # Traced once, not twice.
    absent = {
        name: jnp.full(leaf.shape, 0 if name.endswith("updates") else jnp.nan, leaf.dtype)
        for name, leaf in jax.eval_shape(learn, state)[1].items()
    }
    turns = due.astype(jnp.int32)
    return jax.lax.fori_loop(0, turns, lambda _, now: learn(now[0]), (state, absent))


def critic_of(network: Network) -> Critic:
    """The critics of a state with a field ``critic``, as `jaxgen.nn.critics` makes them."""

    def values(vector: Array, obs: Array, action: Array) -> Array:
        return network.apply(network.unravel(vector), (obs, action)).min(0)

    return Critic(lambda state: state.critic.params, values)


def td_target(
    reward: Array, terminated: Array, next_value: Array, gamma: Array | float
) -> Array:
    """Target ``r + gamma (1 - terminated) v'``; a truncation bootstraps.

    Args:
      reward: float32 ``[...]``.
      terminated: bool ``[...]``.
      next_value: value of the true successor, float32 ``[...]``.
      gamma: discount, a number or float32 ``[...]``.

    Returns:
      float32 ``[...]``.
    """
    chex.assert_equal_shape([reward, terminated, next_value])
    chex.assert_type([reward, terminated, next_value], [float, bool, float])
    return reward + gamma * (1.0 - terminated) * next_value


def newest_observations(
    config: OffPolicyConfig, store: Replay, ring: PyTree, iteration: Array
) -> Array:
    """The observations that an iteration inserted into the rings, ``[V, T * N, *obs_shape]``."""
    num_new, size = config.num_envs * config.num_steps, jax.tree.leaves(ring)[0].shape[1]
    index = (iteration * num_new + jnp.arange(num_new)) % size
    fetched = store.fetch(ring, jnp.broadcast_to(index, (1, config.num_variations, num_new)))
    return store.complete(ring, jax.tree.map(lambda leaf: leaf[0], fetched)).obs


def make_replay(config: OffPolicyConfig, spec: EnvSpec) -> Replay:
    """Make a replay of single images where these make up everything; else of transitions.

    Raises:
      ValueError: several steps are to be added up, and a replay of images keeps single ones.
    """
    if image_replay.fits(spec):
        if config.replay_begins:
            raise BadInput(
                f"the replay of {spec.name} keeps single images, of which a fork can take all or "
                "none of its own: fork with a copy of it"
            )
        if config.n_step > 1:
            raise BadInput(
                f"n_step = {config.n_step} is not allowed on {spec.name}, whose replay stores "
                "single images; use 1"
            )
        return image_replay.of_images(
            spec, config.num_frames, config.num_variations, config.num_envs, config.ring_size
        )
    pack = partial(_map_observations, replay.pack, spec)

    begins = config.replay_begins // config.num_variations

    def draw(key: Array, shape: tuple[int, ...], inserted: Array) -> Array:
        held = jnp.minimum(inserted - begins, config.ring_size)
        index = jax.random.randint(key, shape, 0, held)
        return (begins + index) % config.ring_size if begins else index

    return Replay(
        record=pack,
        init=lambda: replay.init(
            pack(_example(config, spec)), config.num_variations, config.ring_size
        ),
        insert=lambda ring, rollout, before: replay.insert(
            ring, several_steps(config, rollout), before
        ),
        draw=draw,
        fetch=replay.sample,
        complete=lambda ring, fetched: unpacked(spec, fetched),
    )


def forked(
    config: OffPolicyConfig, state: Any, replay_kind: str, iteration: Array, key: Array,
    number: Array,
) -> Any:
    """The state of a fork that begins with half of the replay, or with nothing of it.

    See `Algorithm.fork` for the arguments. Halves are of a random order that the key decides. Half
    a replay lies where its newest entries lay, so that new ones follow them.
    """
    if replay_kind != "split":
        return state._replace(ring=jax.tree.map(jnp.zeros_like, state.ring))
    size, num = config.ring_size, config.num_variations
    inserted = iteration * config.steps_per_iteration // num
    held = jnp.minimum(inserted, size)
    half, place = held // 2, jnp.arange(size)
    age = (inserted - 1 - place) % size
    drawn = jax.random.uniform(key, (size,))
    order = jnp.argsort(jnp.where(age < held, drawn, 2.0))
    from_oldest = (place - (inserted - half)) % size
    taken = order[jnp.minimum((number % 2) * half + from_oldest, size - 1)]
    source = jnp.where(from_oldest < half, taken, place)
    return state._replace(ring=jax.tree.map(lambda leaf: leaf[:, source], state.ring))


def unpacked(spec: EnvSpec, transition: Transition) -> Transition:
    """The inverse of a replay's ``record`` of whole transitions, leaves ``[..., ]``."""
    return _map_observations(replay.unpack, spec, transition)


def _example(config: OffPolicyConfig, spec: EnvSpec) -> Transition:
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


def several_steps(config: OffPolicyConfig, rollout: Transition) -> Transition:
    """The transitions ``[T, V, N, ...]`` that a ring keeps of a rollout: `n_step`, if above 1."""
    return n_step(rollout, config.n_step, config.gamma) if config.n_step > 1 else rollout


def n_step(rollout: Transition, num_steps: int, gamma: Array | float) -> Transition:
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

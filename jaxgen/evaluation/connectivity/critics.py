"""Critics between two ends, on one fixed batch of transitions.

The policies of both ends play the same episodes; their transitions, equally many of each, are the
batch of every point of the line. Environments in JAX only.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms.base import Critic
from jaxgen.evaluation.episodes import FixedEpisodes, make_episodes
from jaxgen.system.options import computing
from jaxgen.types import Array, Policy, Task, Transition

NUM_EPISODES, NUM_TRANSITIONS = 8, 1024
"""Episodes of each end, at level 0, and how many of the transitions of both are kept."""


class CriticLine(NamedTuple):
    """The critics along a line, float64 ``[A]`` each, in units of the deviation of both ends'
    values on the batch."""

    td_error: np.ndarray
    """Root of the mean squared TD error, with the following action by the first end's policy: the
    critic alone changes. Without the bonus that entropy adds to targets."""
    td_error_both: np.ndarray
    """The same with the policy between the ends as well."""
    correlation: np.ndarray
    """Of the values with those that the straight line between both ends' values has."""


@computing()
def visited(task: Task, policy: Policy, ends: np.ndarray, key: Array) -> Transition:
    """Let two policies play, and keep some of the transitions of both.

    Args:
      task: the environment.
      policy: how a vector acts.
      ends: float32 ``[2, D]``.
      key: of the episodes, which are the same for both, and of the choice.

    Returns:
      Leaves ``[NUM_TRANSITIONS, ...]``, drawn with replacement of those before an episode's end.
    """
    episodes = make_episodes(task, key, (0.0,), NUM_EPISODES)
    return _player(task, policy)(jnp.asarray(ends), episodes, jax.random.fold_in(key, 1))


@lru_cache(maxsize=8)
def _player(task: Task, policy: Policy):
    environment, limit = task.environment, task.spec.max_episode_steps

    def play(vector: Array, episodes: FixedEpisodes) -> tuple[Transition, Array]:
        obs, state = jax.vmap(environment.reset_from)(episodes.words, episodes.params)
        alive = jnp.ones(episodes.words.shape[:2], bool)

        def step(carry, _):
            obs, state, alive = carry
            action = policy.best(vector, obs)
            scaled = environment.spec.actions.scale(action)
            following, state, reward, terminated, truncated = jax.vmap(environment.advance)(
                state, scaled, episodes.params
            )
            kept = Transition(obs, action, reward, terminated, truncated, following, ())
            return (following, state, alive & ~(terminated | truncated)), (kept, alive)

        return jax.lax.scan(step, (obs, state, alive), None, limit)[1]

    @jax.jit
    def both(ends: Array, episodes: FixedEpisodes, key: Array) -> Transition:
        transitions, alive = jax.vmap(play, in_axes=(0, None))(ends, episodes)
        half = NUM_TRANSITIONS // 2
        weights = alive.reshape(2, -1).astype(jnp.float32)
        keys = jax.random.split(key, 2)
        drawn = jax.vmap(lambda key, row: jax.random.choice(key, row.size, (half,), p=row))(
            keys, weights / weights.sum(1, keepdims=True)
        )

        def pick(leaf: Array) -> Array:
            flat = leaf.reshape(2, weights.shape[1], *leaf.shape[4:])
            chosen = jax.vmap(lambda rows, index: rows[index])(flat, drawn)
            return chosen.reshape(NUM_TRANSITIONS, *chosen.shape[2:])

        return jax.tree.map(pick, transitions)

    return both


@computing()
def critic_line(
    critic: Critic, policy: Policy, batch: Transition, critics: np.ndarray, policies: np.ndarray,
    alphas: np.ndarray, gamma: float, reward_scale: float = 1.0,
) -> CriticLine:
    """Measure the critics of a line.

    Args:
      critic: how a vector judges.
      policy: how a vector acts.
      batch: see `visited`.
      critics: on the line, float32 ``[A, D]``, the ends first and last.
      policies: on the line, float32 ``[A, P]``.
      alphas: shares of the second end, ``[A]``.
      gamma: discount.
      reward_scale: by which rewards were multiplied where the critics learned.
    """
    values, alone, both = (
        np.asarray(part, np.float64)
        for part in _judge(critic, policy)(
            critics, policies, batch, np.float32(gamma), np.float32(reward_scale)
        )
    )
    unit = values[[0, -1]].std()
    share = np.asarray(alphas, np.float64)[:, None]
    straight = (1 - share) * values[0] + share * values[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return CriticLine(
            np.sqrt(np.square(alone).mean(1)) / unit, np.sqrt(np.square(both).mean(1)) / unit,
            _correlations(values, straight),
        )  # fmt: skip


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlate rows ``[A, B]``; NaN where one does not vary."""
    apart = [part - part.mean(1, keepdims=True) for part in (one, other)]
    lengths = [np.sqrt(np.square(part).sum(1)) for part in apart]
    return (apart[0] * apart[1]).sum(1) / (lengths[0] * lengths[1])


@lru_cache(maxsize=8)
def _judge(critic: Critic, policy: Policy):
    def errors(
        vector: Array, actor: Array, batch: Transition, gamma: Array, scale: Array
    ) -> tuple[Array, Array]:
        values = critic.values(vector, batch.obs, batch.action)
        following = critic.values(vector, batch.next_obs, policy.best(actor, batch.next_obs))
        target = scale * batch.reward + gamma * (1.0 - batch.terminated) * following
        return values, target - values

    @jax.jit
    def judge(critics, policies, batch, gamma, scale):
        of = partial(errors, batch=batch, gamma=gamma, scale=scale)
        values, alone = jax.lax.map(lambda vector: of(vector, policies[0]), critics)
        _, both = jax.lax.map(lambda each: of(*each), (critics, policies))
        return values, alone, both

    return judge

"""DQN: targets, schedules and accounting by hand, and probes with known values."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.algorithms import dqn, off_policy
from jaxgen.algorithms.base import Algorithm
from jaxgen.nn.random import evaluation_words
from jaxgen.study.config import replace
from jaxgen.study.presets import preset
from jaxgen.techniques import make_technique
from jaxgen.training.program import stack_lanes
from jaxgen.types import Transition
from probe_envs import (
    ARMS,
    NUM_LANES,
    PROBES,
    ProbeTask,
    compiled,
    look,
    reference,
    scores,
    single,
    start,
    tiny_config,
    traced,
    train,
)

SPEC = ProbeTask(PROBES["match"]).spec
ONE_UPDATE = {"batch_size": 24, "replay_ratio": 1, "learning_starts": 0}
"""24 env steps in an iteration and 24 sampled transitions: one update."""


@cache
def make(**overrides: Any) -> Algorithm:
    algorithm = dqn.make_dqn(tiny_config("dqn", **overrides), make_technique("baseline"), SPEC)
    return compiled(algorithm)


def same_transitions(terminated: bool, truncated: bool, num_envs: int = 2) -> Transition:
    """A rollout [4, 3, N] of one transition only, so that what is sampled is known."""
    shape = (4, 3, num_envs)
    obs = np.broadcast_to(np.array([0.5, -1.0, 2.0], np.float32), (*shape, 3))
    reward = np.full(shape, 0.25, np.float32)
    ends = np.full(shape, terminated), np.full(shape, truncated)
    leaves: Any = (obs, np.ones(shape, np.int32), reward, *ends, 1 - obs)
    return Transition(*leaves)


def test_td_target_bootstraps_unless_terminated():
    """.25 + .9 x 4 = 3.85, also where truncated; .25 where terminated, truncated or not."""
    flags = np.array([False, False, True, True]), np.array([False, True, False, True])
    rollout = same_transitions(False, False)._replace(
        reward=np.full(4, 0.25, np.float32), terminated=flags[0], truncated=flags[1]  # pyright: ignore
    )
    four = np.full(4, 4, np.float32)
    target = jax.jit(off_policy.td_target)(rollout.reward, rollout.terminated, four, 0.9)
    np.testing.assert_allclose(target, [3.85, 3.85, 0.25, 0.25], rtol=1e-6)


def random_rollout(num_steps: int = 6) -> Transition:
    """One-step transitions [T, 3, 2] with numbered observations and frequent ends."""
    random, shape = np.random.default_rng(0), (num_steps, 3, 2)
    obs = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    ends = random.random((2, *shape)) < 0.2
    reward = random.normal(size=shape).astype(np.float32)
    leaves: Any = (obs, np.zeros(shape, np.int32), reward, *ends, obs + 0.5)
    return Transition(*leaves)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_n_step_returns_stop_with_the_episode_and_the_rollout(n):
    one, gamma = random_rollout(), 0.9
    several = jax.jit(off_policy.n_step, static_argnums=1)
    ours = jax.tree.map(np.asarray, several(one, n, gamma))
    for t, v, i in np.ndindex(one.reward.shape):
        last, total = t, one.reward[t, v, i]
        while (
            last + 1 < min(t + n, 6)
            and not one.terminated[last, v, i]
            and not one.truncated[last, v, i]
        ):
            last += 1
            total += gamma ** (last - t) * one.reward[last, v, i]
        np.testing.assert_allclose(ours.reward[t, v, i], total, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours.extras[t, v, i], gamma ** (last - t + 1), rtol=1e-6)
        assert ours.next_obs[t, v, i] == one.next_obs[last, v, i]
        assert ours.terminated[t, v, i] == one.terminated[last, v, i]
    np.testing.assert_array_equal(ours.obs, one.obs)


def test_n_step_targets_discount_by_the_steps_taken():
    """Every step pays .25 and none ends: three steps pay .25 (1 + g + g^2) and bootstrap by g^3,
    and the last one of the rollout pays .25 and bootstraps by g."""
    config = tiny_config("dqn", n_step=3)
    rollout = same_transitions(False, False)
    kept = jax.jit(lambda rollout: off_policy.several_steps(config, rollout))(rollout)
    kept = jax.tree.map(np.asarray, kept)
    gamma = config.gamma
    np.testing.assert_allclose(kept.reward[0], 0.25 * (1 + gamma + gamma**2), rtol=1e-6)
    np.testing.assert_allclose(kept.reward[-1], 0.25, rtol=1e-6)
    np.testing.assert_allclose(kept.extras[:, 0, 0], gamma ** np.array([3, 3, 2, 1]), rtol=1e-6)


def test_the_mistakes_are_made_where_they_are_asked_for():
    """A time limit ends the task; the successor of a last step is the next first observation."""
    rollout = random_rollout()
    right = dqn._flawed(tiny_config("dqn"), rollout)
    assert right is rollout

    def flawed(**mistake):
        config = tiny_config("dqn", **mistake)
        flaw = jax.jit(lambda rollout: dqn._flawed(config, rollout))
        return jax.tree.map(np.asarray, flaw(rollout))

    ended = flawed(bootstrap_truncations=False)
    np.testing.assert_array_equal(ended.terminated, rollout.terminated | rollout.truncated)
    leaked = flawed(true_successors=False)
    np.testing.assert_array_equal(leaked.next_obs[:-1], rollout.obs[1:])
    np.testing.assert_array_equal(leaked.next_obs[-1], rollout.next_obs[-1])


@pytest.mark.parametrize("terminated, truncated", [(False, False), (False, True), (True, False)])
def test_double_q_target_by_hand(terminated, truncated):
    """y = .1 x .25 + gamma Q_target(s', argmax_a Q_online(s', a)): the online network chooses,
    the target network judges; loss = huber(Q_online(s, 1) - y)."""
    algorithm = make(reward_scale=0.1, **ONE_UPDATE)
    rollout = same_transitions(terminated, truncated)
    obs, next_obs = rollout.obs[0, 0, 0], rollout.next_obs[0, 0, 0]
    state = algorithm.init(jax.random.key(0))
    online = np.asarray(scores(algorithm, state.online.params, next_obs))
    # Another network that prefers the other action.
    others = [algorithm.init(jax.random.key(seed)).target for seed in range(1, 8)]
    judged = [np.asarray(scores(algorithm, other, next_obs)) for other in others]
    differing = next(i for i, q in enumerate(judged) if q.argmax() != online.argmax())
    state = state._replace(target=others[differing])
    target = 0.1 * 0.25
    if not terminated:
        target += 0.99 * judged[differing][online.argmax()]
    error = float(scores(algorithm, state.online.params, obs)[1]) - target
    expected = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    _, metrics = algorithm.update(state, actor, rollout, jnp.int32(0), jax.random.key(2))
    assert metrics["updates"] == 1
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)


@pytest.mark.parametrize("num_envs, copies", [(2, [72, 120, 192, 240]), (4, [96, 144, 192, 240])])
def test_the_target_is_copied_by_env_steps(num_envs, copies):
    """Every 60 env steps, at the end of the iteration that completes them: of 24 steps each with
    2 environments, of 48 with 4; four copies in 240 steps either way."""
    algorithm = make(num_envs=num_envs, learning_starts=9600)
    rollout = same_transitions(False, False, num_envs)
    steps = 12 * num_envs
    state = algorithm.init(jax.random.key(0))
    blank, seen = state._replace(target=np.zeros_like(state.target)), []
    for iteration in range(240 // steps):
        actor = algorithm.prepare(blank, jnp.int32(iteration), jax.random.key(1))
        key = jax.random.key(2)
        after, _ = algorithm.update(blank, actor, rollout, jnp.int32(iteration), key)
        target = np.asarray(after.target)
        if (target == np.asarray(blank.online.params)).all():
            seen.append((iteration + 1) * steps)
        else:
            assert (target == 0).all()
    assert seen == copies


def test_epsilon_falls_linearly_over_the_first_70_percent():
    """1 at the start, half-way .525 at 35 % of the budget, .05 from 70 % on."""
    config: Any = preset("dqn", "cartpole")
    shares = np.array([0.0, 0.35, 0.7, 0.85, 1.0], np.float32)
    epsilon = jax.jit(lambda steps: dqn.linear_epsilon(config, steps))
    ours = epsilon(shares * np.float32(config.total_steps))
    np.testing.assert_allclose(ours, [1.0, 0.525, 0.05, 0.05, 0.05], rtol=1e-5)


def test_epsilon_of_an_iteration_is_that_of_its_first_step():
    """Iteration i of 24 steps, budget 9600: 1 - .95 x 24 i / 6720; the metric for the console."""
    epsilon = reference("dqn").metrics["epsilon"][0]
    expected = 1 - 0.95 * 24 * np.arange(len(epsilon)) / (0.7 * 9600)
    np.testing.assert_allclose(epsilon, expected, rtol=1e-5)


def test_updates_keep_the_replay_ratio_and_wait_for_the_first_steps():
    """Ratio 2: 48 of 24 new transitions, 4 updates of 12. 48 steps are there after iteration 1."""
    updates = reference("dqn").metrics["updates"]
    np.testing.assert_array_equal(updates, np.tile([0] + [4] * 23, (NUM_LANES, 1)))
    count = optax.tree_utils.tree_get(reference("dqn").carry.state.online.moments, "count")
    skipped = reference("dqn").metrics["skipped_updates"].sum(1)
    np.testing.assert_array_equal(count, 4 * 23 - skipped)
    assert len(ARMS) == NUM_LANES


def test_only_what_was_inserted_is_sampled():
    """A ring of NaN but for 8 transitions of each variation: nothing of the rest is read."""
    algorithm = make(learning_starts=0)
    state = algorithm.init(jax.random.key(0))
    poisoned = jax.tree.map(
        lambda leaf: np.full_like(leaf, np.nan) if leaf.dtype == np.float32 else leaf, state.ring
    )
    state = state._replace(ring=poisoned)
    rollout = same_transitions(False, True)
    for iteration in range(4):
        assert np.isnan(state.ring.reward).any()
        actor = algorithm.prepare(state, jnp.int32(iteration), jax.random.key(1))
        key = jax.random.key(iteration)
        state, metrics = algorithm.update(state, actor, rollout, jnp.int32(iteration), key)
        assert np.isfinite(metrics["loss"])
    assert np.isfinite(state.online.params).all()


def test_each_variation_has_its_own_ring():
    """Rewards 0, 1, 2 by variation: the ring of variation k holds reward k and no other."""
    algorithm, rollout = make(learning_starts=0), same_transitions(True, False)
    number: Any = np.arange(3, dtype=np.float32)[:, None]
    rollout = rollout._replace(reward=np.broadcast_to(number, (4, 3, 2)))  # pyright: ignore
    state = algorithm.init(jax.random.key(0))
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    state, _ = algorithm.update(state, actor, rollout, jnp.int32(0), jax.random.key(2))
    expected = np.tile(np.arange(3.0)[:, None], (1, 8))
    reward = np.asarray(state.ring.reward)
    np.testing.assert_array_equal(reward[:, :8], expected)
    np.testing.assert_array_equal(reward[:, 8:], 0)


def test_the_sampled_mode_explores_with_epsilon_05():
    """The other of two actions has probability .025; 40 000 draws are within .003 of it."""
    algorithm = make(learning_starts=0)
    policy, params = algorithm.policy, algorithm.params(algorithm.init(jax.random.key(0)))
    obs: Any = np.ones((40_000, *SPEC.obs_shape), np.float32)
    draw_words = jax.jit(evaluation_words, static_argnums=1)
    words = draw_words(jax.random.key(0), (40_000, policy.num_words))
    drawn, best = policy.draw(params, obs, words), policy.best(params, obs)
    others = np.asarray(drawn) != np.asarray(best)
    np.testing.assert_allclose(others.mean(), 0.025, atol=0.003)


# Probes: one lane each; no minibatch noise but the sampling of the ring.

NUM_ITERATIONS = 400
NAMES = list(PROBES)


@cache
def trained() -> np.ndarray:
    """Parameters ``[L, D]`` of a lane per probe."""
    config = tiny_config("dqn")
    short = replace(config, {"gamma": 0.8})
    arms = [
        (short if name in ("truncated", "terminated") else config, single(number))
        for number, name in enumerate(NAMES)
    ]
    arms += [arms[0]] * (NUM_LANES - len(arms))
    program, lanes = traced("dqn").program, stack_lanes(arms, list(range(NUM_LANES)))
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, range(0, NUM_ITERATIONS + 1, 50))
    return np.asarray(carry.state.online.params)


def values(name: str, state: int) -> np.ndarray:
    params = jnp.asarray(trained()[NAMES.index(name)])
    return np.asarray(scores(make(), params, look(PROBES[name], state)))


def assert_values(name: str, state: int, expected, tolerance: float = 0.03) -> None:
    np.testing.assert_allclose(values(name, state), expected, atol=tolerance)


def test_probe_constant_reward():
    assert_values("constant", 0, [1, 1])


def test_probe_reward_by_observation():
    assert_values("observed", 0, [1, 1])
    assert_values("observed", 1, [-1, -1])


def test_probe_discounting():
    """gamma = .99, not 1."""
    assert_values("discounted", 0, [0.99, 0.99], 0.004)
    assert_values("discounted", 1, [1, 1], 0.004)


def test_probe_reward_by_action():
    assert_values("action", 0, [0, 1])


def test_probe_reward_by_observation_and_action():
    assert_values("match", 0, [1, -1])
    assert_values("match", 1, [-1, 1])


def test_pitfall_4_truncation_bootstraps():
    """Constant reward .2 that is only ever truncated: .2 / (1 - .8) = 1."""
    assert_values("truncated", 0, [1, 1])


def test_pitfall_4_termination_does_not():
    """The same but one step in four terminates: q = .2 + .8 x 3/4 q, so q = .5. (The errors,
    -.3 and .1, lie where the Huber loss is quadratic, so that it finds the mean; the action
    that is taken once in forty steps is sampled too rarely to find it.)"""
    assert abs(values("terminated", 0).max() - 0.5) < 0.06

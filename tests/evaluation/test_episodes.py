"""Evaluation: the fixed episodes of a frozen policy, each counted once and to its end only."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.evaluation.episodes import (
    FixedEpisodes,
    Played,
    make_episodes,
    play,
    random_returns,
)
from jaxgen.evaluation.policy import Acting
from jaxgen.nn.ops import greedy
from jaxgen.study.spec import MODES
from probe_envs import (
    MAX_STEPS,
    NUM_ITERATIONS,
    NUM_LANES,
    PROBES,
    ProbeTask,
    Table,
    assert_same_bits,
    every,
    level_of,
    pick,
    reference,
    table,
    traced,
    train,
)

KEY = jax.random.key(7)
LEVELS = tuple(level_of(number) for number in range(len(PROBES)))
ACTION_LEVEL = level_of(list(PROBES).index("action"))


def played(table: Table, action: int = 0, num_episodes: int = 64) -> tuple[Played, np.ndarray]:
    """Outcomes [E] of a policy that always takes one action, and each episode's first state."""
    task = ProbeTask(table)
    suite = make_episodes(task, KEY, (0.0,), num_episodes)
    always = Acting(lambda obs, words: jnp.full(words.shape[:-1], action, jnp.int32))
    run = jax.jit(lambda suite: play(task.environment, suite, always, MAX_STEPS))
    starts = np.asarray(table.starts)[np.asarray(suite.words)[0, :, 0] % 2]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], run(suite)), starts


def test_a_finished_episode_earns_nothing_more():
    """One step pays 1 and terminates; the state that follows would pay 100 for each further one."""
    trap = table(every([0], 1.0) | every([1], 100.0), moves=every([0], 1), ends=((0, 0), (0, 1)))
    outcomes, _ = played(trap)
    np.testing.assert_array_equal(outcomes.returns, 1)
    np.testing.assert_array_equal(outcomes.lengths, 1)


def test_a_truncated_episode_ends_too():
    """Truncated after 3 steps that pay 1: the environment would go on for 8."""
    outcomes, _ = played(table(every([0], 1.0), limit=3))
    np.testing.assert_array_equal(outcomes.returns, 3)
    np.testing.assert_array_equal(outcomes.lengths, 3)


def test_evaluation_always_ends():
    """An environment that never ends an episode is left at the time limit that its spec states."""
    outcomes, _ = played(table(every([0], 1.0), limit=10**6))
    np.testing.assert_array_equal(outcomes.returns, MAX_STEPS)
    np.testing.assert_array_equal(outcomes.lengths, MAX_STEPS)


def test_pitfall_5_short_episodes_weigh_no_more_than_long_ones():
    """Episodes of 1 step (return 1) and of 5 steps (return 5), by their start: every one of the
    64 counts once, so the mean is that of the starts; the first to finish would be short ones."""
    uneven = table(every(range(6), 1.0), starts=(0, 1), ends=((0, 0), (0, 1), (5, 0), (5, 1)),
                   moves=every([1], 2) | every([2], 3) | every([3], 4) | every([4], 5))
    outcomes, starts = played(uneven)
    np.testing.assert_array_equal(outcomes.returns, np.where(starts == 0, 1, 5))
    np.testing.assert_array_equal(outcomes.lengths, np.where(starts == 0, 1, 5))
    assert 16 < (starts == 0).sum() < 48


@cache
def whole() -> tuple[FixedEpisodes, np.ndarray]:
    """All probes, 16 episodes each, with the trained policies of the reference run."""
    task, program, _ = traced("ppo")
    suite = make_episodes(task, KEY, LEVELS, 16)
    ours = reference("ppo")
    params = program.learner.params(ours.lanes, ours.carry)
    return suite, np.asarray(program.evaluate(ours.lanes, params, suite).returns)


def test_returns_have_a_place_for_every_mode_level_and_episode():
    suite, returns = whole()
    assert MODES == ("greedy", "sampled")
    assert returns.shape == (NUM_LANES, 2, len(LEVELS), 16)
    # `constant`: every episode of every policy returns 1.
    np.testing.assert_array_equal(returns[:, :, list(PROBES).index("constant")], 1)
    assert len(np.unique(returns)) > 3
    assert suite.words.shape == (len(LEVELS), 16, 1)


def test_pitfall_8_an_episode_does_not_depend_on_its_batch():
    """The last 5 episodes of two levels, in the other order and run by themselves: the same
    returns bit by bit, greedy and sampled. Sampled ones would shift if draws went by position."""
    suite, returns = whole()
    _, program, _ = traced("ppo")
    ours = reference("ppo")
    levels = np.array([4, 0])
    part = FixedEpisodes(
        pick(suite.params, levels), suite.words[levels][:, 11:], suite.keys[levels][:, 11:]
    )
    alone = program.evaluate(ours.lanes, program.learner.params(ours.lanes, ours.carry), part)
    np.testing.assert_array_equal(alone.returns, returns[:, :, levels, 11:])


def test_a_levels_episodes_do_not_depend_on_the_other_levels():
    suite, _ = whole()
    alone = make_episodes(traced("ppo").task, KEY, (LEVELS[0], LEVELS[4]), 16)
    levels = np.array([0, 4])
    assert_same_bits(alone.params, pick(suite.params, levels))
    np.testing.assert_array_equal(alone.words, suite.words[levels])
    ours, theirs = (jax.random.key_data(keys) for keys in (alone.keys, suite.keys[levels]))
    np.testing.assert_array_equal(ours, theirs)


def test_every_episode_has_a_key_of_its_own():
    data = np.asarray(jax.random.key_data(whole()[0].keys)).reshape(-1, 2)
    assert len(np.unique(data, axis=0)) == len(data) == len(LEVELS) * 16


def test_pitfall_8_evaluating_changes_nothing():
    """Training goes on after an evaluation as if there had been none, and so do its inputs."""
    _, program, _ = traced("ppo")
    ours, (suite, returns) = reference("ppo"), whole()
    carry, _ = train(program, ours.lanes, ours.first, ours.content, (0, 10))
    params = program.learner.params(ours.lanes, carry)
    before = np.array(params)
    first, again = (program.evaluate(ours.lanes, params, suite).returns for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(params, before)
    assert (np.asarray(first) != returns).any()
    carry, _ = train(program, ours.lanes, carry, ours.content, (10, NUM_ITERATIONS))
    assert_same_bits(carry, ours.carry)


@pytest.mark.parametrize("algorithm, chance", [("ppo", 0.5), ("dqn", 0.025), ("es", 0.5)])
def test_greedy_takes_the_best_and_sampled_draws(algorithm, chance):
    """Parameters 0 prefer no action: greedy takes action 0, which pays 0; a categorical draw
    takes action 1, which pays 1, half of the time, epsilon .05 one time in forty. 2000 episodes:
    within 4 standard errors, .045 and .014."""
    task, program, _ = traced(algorithm)
    suite = make_episodes(task, KEY, (ACTION_LEVEL,), 2000)
    lanes, carry = reference(algorithm).lanes, reference(algorithm).carry
    params = jnp.zeros_like(program.learner.params(lanes, carry))
    returns = np.asarray(program.evaluate(lanes, params, suite).returns)
    np.testing.assert_array_equal(returns[:, 0], 0)
    deviation = 4 * np.sqrt(chance * (1 - chance) / 2000)
    np.testing.assert_allclose(returns[:, 1].mean((1, 2)), chance, atol=deviation)
    # Episodes are common to all lanes.
    np.testing.assert_array_equal(returns[1:], np.broadcast_to(returns[:1], returns[1:].shape))


def test_greedy_prefers_the_first_of_equals():
    ours = greedy(jnp.array([[1.0, 1.0], [0.0, 2.0]]))
    np.testing.assert_array_equal(ours, [0, 1])
    assert ours.dtype == jnp.int32


def test_the_random_floor():
    """`action` pays 1 half of the time; `match` pays 1 or -1 alike. 1000 episodes, 4 errors."""
    task = ProbeTask(*PROBES.values())
    names = ["action", "match", "constant"]
    levels = tuple(level_of(list(PROBES).index(name)) for name in names)
    suite = make_episodes(task, KEY, levels, 1000)
    returns = jax.jit(lambda suite: random_returns(task, suite))(suite)
    np.testing.assert_allclose(returns.mean(1), [0.5, 0, 1], atol=4 / np.sqrt(1000))

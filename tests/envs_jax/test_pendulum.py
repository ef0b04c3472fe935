"""Pendulum: step by step as Gymnasium's, its picture, and the best returns that it allows."""

import math
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import make_task, pendulum
from envs_jax.pendulum import (
    Grid,
    Pendulum,
    PendulumTask,
    best_play,
    describe_level,
    pendulum_params,
    pendulum_state,
    sin_cos,
)
from experiments import matrix
from jaxgen.evaluation.references import make_references
from jaxgen.study.spec import Evaluation
from jaxgen.training.keys import evaluation_key

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
ENVIRONMENT, TASK = Pendulum(), PendulumTask()
NUM_STARTS = 200
"""Starts of best play: one number, so that it is compiled once."""


def test_dynamics_of_the_levels_are_frozen():
    params = pendulum_params(jnp.array(LEVELS))
    for values in params:
        np.testing.assert_allclose(values, [1, 1.125, 1.25, 1.375, 1.5])
    assert describe_level(TASK, 0.5, 4) == "rod 1.25 m, 1.25 kg"


@pytest.fixture(scope="module")
def episodes():
    """An episode at every level, leaves [T, level, env]: four with random torques, also beyond the
    bounds, and one that is pushed the way it turns, to its largest speed."""

    def level(params, words, actions):
        def step(state, action):
            action = action.at[-1].set(2.5 * jnp.sign(state.theta_dot[-1]))
            obs, after, *outcome = ENVIRONMENT.advance(state, action, params)
            return after, (state, action, obs, *outcome)

        return jax.lax.scan(step, ENVIRONMENT.reset_from(words, params)[1], actions)[1]

    generator = np.random.default_rng(0)
    words = generator.integers(2**32, size=(5, 5, 1), dtype=np.uint32)
    actions = generator.uniform(-2.5, 2.5, (5, 200, 5, 1)).astype(np.float32)
    run = jax.jit(jax.vmap(level, out_axes=1))
    return jax.tree.map(np.asarray, run(pendulum_params(jnp.array(LEVELS)), words, actions))


@pytest.mark.parametrize("level", range(5))
def test_lockstep_with_gymnasium(episodes, level):
    """One float32 step from the same state stays within 3e-6 of Gymnasium's float64 step; rewards,
    which are 20 times as large, within 1e-5."""
    state, action, obs, reward, terminated, truncated = episodes
    reference = gymnasium.make("Pendulum-v1", disable_env_checker=True)
    physics: Any = reference.unwrapped
    physics.m = physics.l = 1 + 0.5 * LEVELS[level]
    for env in range(5):
        reference.reset()
        for t in range(200):
            at = t, level, env
            physics.state = np.array([float(state.theta[at]), float(state.theta_dot[at])])
            after, expected, *ends, _ = reference.step(action[at])
            np.testing.assert_allclose(obs[at], after, rtol=0, atol=3e-6)
            np.testing.assert_allclose(reward[at], float(expected), rtol=0, atol=1e-5)
            assert [terminated[at], truncated[at]] == ends
    assert truncated[199].all() and not truncated[:199].any()


def test_episodes_reach_the_edges_of_the_state(episodes):
    state = episodes[0]
    assert state.theta_dot.max() == 8 and state.theta_dot.min() == -8
    turns = np.abs(np.diff(state.theta, axis=0)) > math.pi
    assert turns.any() and np.abs(state.theta).max() <= math.pi + 1e-6


def test_sines_and_cosines_are_those_of_the_angle():
    angles = np.linspace(-math.pi, math.pi, 100_001, dtype=np.float32)
    sin, cos = sin_cos(jnp.asarray(angles))
    np.testing.assert_allclose(sin, np.sin(angles, dtype=np.float64), rtol=0, atol=5e-7)
    np.testing.assert_allclose(cos, np.cos(angles, dtype=np.float64), rtol=0, atol=5e-7)


def test_starts_are_uniform():
    words = jax.random.bits(jax.random.key(0), (10_000, 1))
    obs, state = ENVIRONMENT.reset_from(words, ENVIRONMENT.default_params)
    np.testing.assert_allclose(obs[:, 0], np.cos(state.theta), atol=1e-6)
    np.testing.assert_array_equal(obs[:, 2], state.theta_dot)
    starts = np.stack([state.theta / math.pi, state.theta_dot])
    assert (np.abs(starts) <= 1).all()
    # Mean 0, standard deviation 1 / sqrt(3) = .577; 5 sigma of 10 000 draws.
    np.testing.assert_allclose(starts.mean(1), 0, atol=5 * 0.577 / 100)
    np.testing.assert_allclose(starts.std(1), 0.577, rtol=0.03)
    np.testing.assert_allclose(np.corrcoef(starts), np.eye(2), atol=0.05)
    # A variable for each half of a word, from the middle of the lowest interval to the highest's.
    edges = jnp.array([[0x0000_FFFF]], jnp.uint32)
    _, state = ENVIRONMENT.reset_from(edges, ENVIRONMENT.default_params)
    edge = 1 - 1 / 2**16
    np.testing.assert_allclose([state.theta[0], state.theta_dot[0]], [-math.pi * edge, edge])


def swing_up(state, params):
    """A known controller: pump energy, then hold upright by a linear law."""
    mass, length = params
    inertia = mass * length**2 / 3
    energy = inertia * state.theta_dot**2 / 2 + mass * 10 * length / 2 * (jnp.cos(state.theta) - 1)
    hold = -(20 * state.theta + 5 * state.theta_dot)
    pump = -2 * jnp.sign(energy * state.theta_dot)
    torque: Any = jnp.where(jnp.abs(state.theta) < 0.3, hold, pump)
    return jnp.clip(torque, -2, 2)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_best_play_attains_what_its_grid_claims(level):
    """Within 1 % on average; and what a known controller reaches is less."""
    params = pendulum_params(jnp.float32(level))
    words = jax.random.bits(jax.random.key(0), (NUM_STARTS, 1))
    claimed, attained = best_play(params, words, Grid())
    assert attained.mean() == pytest.approx(float(claimed.mean()), rel=0.01)
    # Most episodes start too far from upright to hold it at once.
    assert -320 < attained.mean() < -110

    def step(state, _):
        torque = swing_up(state, params)[:, None]
        return ENVIRONMENT.advance(state, torque, params)[1:3]

    start = ENVIRONMENT.reset_from(words, params)[1]
    known = jax.jit(lambda: jax.lax.scan(step, start, length=200)[1].sum(0))()
    assert known.mean() < attained.mean()
    assert (known <= attained + 0.05 * jnp.abs(attained) + 2).all()


def test_the_ceiling_is_what_best_play_attains():
    """By level and by episode; from upright it costs next to nothing, from below the most."""
    upright, below, moving = 0x7FFF_7FFF, 0x0000_7FFF, 0x7FFF_FFFF
    words = np.full((NUM_STARTS, 1), upright, np.uint32)
    words[1:3, 0] = below, moving
    of_levels = jnp.broadcast_to(words, (2, *words.shape))
    params = pendulum_params(jnp.array([0.0, 1.0]))
    ceiling = TASK.ceiling(params, of_levels)
    assert ceiling.shape == (2, NUM_STARTS) and ceiling.dtype == jnp.float32
    for row, level in zip(ceiling, (0.0, 1.0), strict=True):
        attained = best_play(pendulum_params(jnp.float32(level)), words, Grid())[1]
        np.testing.assert_array_equal(row, attained)
        assert -0.1 < row[0] <= 0 and row[1] < row[2] < row[0]
    before = pendulum._attained.cache_info()
    TASK.ceiling(params, of_levels)
    after = pendulum._attained.cache_info()
    assert (after.hits, after.misses) == (before.hits + 2, before.misses)


def test_random_play_is_far_below_the_ceiling():
    """400 random episodes of Gymnasium's own have means of -1238 and -1144, with standard errors of
    14 and 17."""
    task = make_task("pendulum")
    references = make_references(task, Evaluation((0.0, 1.0), NUM_STARTS), evaluation_key(0))
    np.testing.assert_allclose(references.floor, [-1238, -1144], rtol=0.05)
    assert (references.ceiling > [-150, -310]).all()


def test_picture_shows_the_rod():
    """Its tip moves with the angle, against the clock; a longer rod is drawn longer, a heavier one
    thicker."""

    def rod(theta, level):
        state = pendulum_state(jnp.float32(theta), jnp.float32(0), jnp.int32(0))
        image = ENVIRONMENT.render(state, pendulum_params(jnp.float32(level)))
        return np.argwhere((image == (204, 77, 77)).all(-1))

    up, left, heavy = rod(0.0, 0.0), rod(math.pi / 2, 0.0), rod(math.pi, 1.0)
    assert up.min(0)[0] == pytest.approx(100 - 65, abs=1)
    assert left.min(0)[1] == pytest.approx(100 - 65, abs=1)
    assert heavy.max(0)[0] == pytest.approx(99 + 97.5, abs=1)
    widths = [np.ptp(pixels[:, 1]) for pixels in (up, heavy)]
    assert widths[1] > widths[0] + 3


def test_a_study_of_it_is_planned_by_name(capsys):
    words = ["--env", "pendulum", "--algo", "es", "--technique", "baseline", "dr", "--seeds", "0"]
    assert matrix.main([*words, "--list"]) == 0
    assert "2 runs, 2 trained, 1 program" in capsys.readouterr().out

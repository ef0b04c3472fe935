"""MountainCarContinuous: step by step as Gymnasium's, its levels, its picture."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import make_task
from envs_jax.mountain_car import (
    GOAL,
    MAX_STEPS,
    MountainCarContinuous,
    MountainCarContinuousTask,
    MountainCarState,
    describe_level,
    mountain_car_params,
)
from jaxgen.evaluation.references import make_references
from jaxgen.study.spec import Evaluation
from jaxgen.training.keys import evaluation_key

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
ENVIRONMENT = MountainCarContinuous()


def test_dynamics_of_the_levels_are_frozen():
    gravity, power = mountain_car_params(jnp.array(LEVELS))
    np.testing.assert_allclose(gravity, 0.0025 * np.array([1, 1.125, 1.25, 1.375, 1.5]))
    np.testing.assert_allclose(power, 0.0015 * np.array([1, 0.925, 0.85, 0.775, 0.7]))
    task = MountainCarContinuousTask()
    assert describe_level(task, 1.0, 4) == "gravity 0.00375, power 0.00105"


@pytest.fixture(scope="module")
def episodes() -> Any:
    """1 200 steps at every level, leaves [T, level, env]: random forces, also beyond the bounds,
    pushes along the velocity to the goal and to the wall, and a start at the wall."""

    def level(params: Any, words: Any, actions: Any) -> Any:
        def step(state: Any, action: Any) -> Any:
            action = action.at[3:].set(jnp.where(state.velocity[3:, None] >= 0, 1.0, -1.0))
            obs, after, *outcome = ENVIRONMENT.advance(state, action, params)
            # An episode that ended goes on from its start, so that all steps are compared.
            first = ENVIRONMENT.reset_from(words, params)[1]
            ended = outcome[1] | outcome[2]
            follows = jax.tree.map(lambda a, b: jnp.where(ended, a, b), first, after)
            return follows, (state, action, obs, *outcome)

        return jax.lax.scan(step, ENVIRONMENT.reset_from(words, params)[1], actions)[1]

    generator = np.random.default_rng(0)
    words = generator.integers(2**32, size=(5, 5, 1), dtype=np.uint32)
    actions = generator.uniform(-1.5, 1.5, (5, 1200, 5, 1)).astype(np.float32)
    run = jax.jit(jax.vmap(level, out_axes=1))
    return jax.tree.map(np.asarray, run(mountain_car_params(jnp.array(LEVELS)), words, actions))


@pytest.mark.parametrize("level", range(5))
def test_lockstep_with_gymnasium(episodes, level):
    """From the same state a step stays within 2e-7 of Gymnasium's, which is of 32 bits as well, and
    its ends are the same; gravity is a number in Gymnasium's code, and enters as a force."""
    state, action, obs, reward, terminated, truncated = episodes
    gravity, power = (float(each) for each in mountain_car_params(jnp.float32(LEVELS[level])))
    physics: Any = gymnasium.make("MountainCarContinuous-v0").unwrapped
    physics.reset()
    for env in range(5):
        for t in range(1200):
            at = t, level, env
            place, speed = (np.float64(leaf[at]) for leaf in state[:2])
            # What gravity is more than Gymnasium's is part of the velocity before the step.
            speed -= (gravity - 0.0025) * np.cos(3 * place)
            physics.state, physics.power = np.array([place, speed]), power
            after, paid, ends, _, _ = physics.step(action[at].astype(np.float64))
            np.testing.assert_allclose(obs[at], after, rtol=0, atol=2e-7)
            np.testing.assert_allclose(reward[at], paid, rtol=0, atol=1e-5)
            assert terminated[at] == ends
            assert truncated[at] == (state.time[at] + 1 >= MAX_STEPS)
    assert terminated[:, level].any()


def test_episodes_reach_the_wall_the_goal_and_the_limit(episodes):
    _, _, obs, reward, terminated, truncated = episodes
    assert obs[..., 0].min() == np.float32(-1.2) and (obs[terminated][:, 0] >= GOAL).all()
    assert (obs[obs[..., 0] == np.float32(-1.2)][:, 1] >= 0).all()
    assert (reward[terminated] > 99).all() and (reward[~terminated] <= 0).all()
    assert truncated.any() and not (terminated & truncated).all()


def test_starts_are_uniform_and_at_rest():
    words = jax.random.bits(jax.random.key(0), (10_000, 1))
    obs, state = ENVIRONMENT.reset_from(words, ENVIRONMENT.default_params)
    assert (state.velocity == 0).all() and (np.abs(state.position + 0.5) <= 0.1).all()
    np.testing.assert_allclose(np.mean(state.position), -0.5, atol=5 * 0.0577 / 100)
    np.testing.assert_allclose(np.std(state.position), 0.0577, rtol=0.03)
    np.testing.assert_array_equal(obs[:, 0], state.position)


@pytest.mark.parametrize(("level", "factor", "least"), [(0.0, 10, 96), (1.0, 15, 93)])
def test_a_car_that_is_pushed_along_its_speed_comes_near_the_reference(level, factor, least):
    params = mountain_car_params(jnp.float32(level))
    words = jax.random.bits(jax.random.key(0), (500, 1))

    def step(carry: Any, _: Any) -> Any:
        state, ended, total = carry
        force = jnp.clip(factor * state.velocity[:, None], -1, 1)
        _, state, reward, terminated, _ = ENVIRONMENT.advance(state, force, params)
        return (state, ended | terminated, total + jnp.where(ended, 0, reward)), None

    start = ENVIRONMENT.reset_from(words, params)[1], jnp.zeros(500, bool), jnp.zeros(500)
    (_, ended, total), _ = jax.jit(lambda: jax.lax.scan(step, start, None, length=MAX_STEPS))()
    assert least < float(total.mean()) < float(total.max()) < 100 and ended.mean() > 0.99


def test_random_play_does_not_reach_the_goal():
    """It pays a third of .1 a step on average."""
    task = make_task("mountain_car_continuous")
    references = make_references(task, Evaluation((0.0, 1.0), 50), evaluation_key(0))
    np.testing.assert_allclose(references.floor, -0.1 / 3 * MAX_STEPS, rtol=0.03)
    np.testing.assert_array_equal(references.ceiling, [100, 100])


def test_picture_shows_the_car():
    def car(position: float) -> np.ndarray:
        state = MountainCarState(jnp.float32(position), jnp.float32(0), jnp.int32(0))
        image = ENVIRONMENT.render(state, ENVIRONMENT.default_params)
        return np.argwhere((image == (204, 77, 77)).all(-1)).mean(0)

    left, valley, goal = car(-1.1), car(-0.52), car(0.45)
    assert left[1] < valley[1] < goal[1] and valley[0] > left[0] > goal[0]

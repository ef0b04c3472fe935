"""Continuous actions: chosen in [-1, 1], scaled where they meet an environment, wherever it lives.

The probe is that of `box_envs`: what its best and other policies return is known.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from box_envs import (
    BOX,
    CENTRE_WORTH,
    NOISE,
    NUM_STEPS,
    SIGNS,
    SPEC,
    BoxHostTask,
    BoxTask,
    BoxVecEnv,
    make_linear,
    reward_of,
)
from envs_jax.host import CallbackBridge
from jaxgen import api
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.connectivity.line import along
from jaxgen.evaluation.episodes import FixedEpisodes, make_episodes, random_returns
from jaxgen.evaluation.host_episodes import make_host_episodes, random_host_returns
from jaxgen.evaluation.saving import load_agent, save_agent
from jaxgen.evaluation.suite import make_suite
from jaxgen.report.practice import films
from jaxgen.techniques import make_technique
from jaxgen.training.device import make_device_program
from jaxgen.training.host import BRIDGES
from jaxgen.training.host_program import make_host_program
from jaxgen.training.keys import evaluation_key
from jaxgen.training.program import Lanes, Program, evaluate_vectors, stack_lanes
from jaxgen.training.rollout import collect, start_episodes
from jaxgen.types import Box, Discrete, EnvSpec, Numbers
from probe_envs import assert_same_bits, tiny_config

KEY = jax.random.key(3)
NUM_EPISODES = 500
BEST = jnp.asarray(SIGNS)


def lanes_of(num_lanes: int) -> Lanes:
    arm = tiny_config("ppo"), make_technique("baseline")
    return stack_lanes([arm] * num_lanes, list(range(num_lanes)))


# The space


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_box_is_reached_from_edge_to_edge_and_not_beyond(xp):
    """Centre (1, 1/2), 3 and 1/2 on each side; 7 and -7 act as 1 and -1."""
    chosen = xp.asarray([[-1, -1], [0, 0], [1, 1], [0.5, -0.5], [7, -7]], xp.float32)
    expected = [[-2, 0], [1, 0.5], [4, 1], [2.5, 0.25], [4, 0]]
    for action in (chosen, chosen.reshape(5, 1, 1, 2)):
        scaled = BOX.scale(action)
        assert isinstance(scaled, np.ndarray if xp is np else jax.Array)
        assert scaled.dtype == np.float32 and scaled.shape == action.shape
        np.testing.assert_array_equal(np.asarray(scaled).reshape(5, 2), expected)


def test_numbered_actions_stay_as_they_are():
    action = jnp.arange(3)
    assert Discrete(3).scale(action) is action


# Training


def test_the_environment_alone_gets_scaled_actions():
    """The rollout keeps what was chosen, within `NOISE` of the policy; the rewards are those of
    the scaled actions. Each action has two words of its own."""
    task, algorithm = BoxTask(), make_linear(tiny_config("ppo"), make_technique("gar"), SPEC)
    params = task.training_params(KEY, jnp.array([0.0, 0.25, 0.5]))
    episodes = start_episodes(task.environment, params, algorithm, KEY)
    run = jax.jit(lambda actor: collect(task.environment, params, algorithm, actor, episodes, KEY))
    _, rollout, _ = run(BEST)
    assert rollout.action.shape == (*rollout.reward.shape, 2)
    assert rollout.action.dtype == jnp.float32
    noise = np.asarray(rollout.action - rollout.obs * BEST.reshape(1, 1, 1, 2))
    assert np.abs(noise).max() <= NOISE + 1e-6
    assert len(np.unique(noise)) > 0.9 * noise.size
    expected = reward_of(np, np.asarray(rollout.obs[..., 0]), BOX.scale(np.asarray(rollout.action)))
    np.testing.assert_allclose(rollout.reward, expected, rtol=1e-5, atol=1e-6)


def host_run(bridge: Any) -> tuple[Any, BoxVecEnv]:
    """Two iterations of two lanes on the host."""
    lanes, task = lanes_of(2), BoxHostTask()
    program = make_host_program(task, make_linear, lanes, bridge=bridge)
    env: Any = program.world.content(lanes, 0)
    carry, metrics = program.learner.train(lanes, program.learner.init(lanes, env), env, 0, 2)
    return jax.tree.map(np.asarray, (carry.episodes, metrics, env.get_state())), env


def test_both_bridges_scale_to_the_same_bits():
    """One call of the host for both lanes; what it gets lies in the box and fills it."""
    (ours, env), (theirs, looped) = (host_run(bridge) for bridge in BRIDGES)
    assert_same_bits(ours, theirs)
    assert_same_bits(env.actions, looped.actions)
    assert len(env.actions) == 2 * tiny_config("ppo").num_steps
    for action in env.actions:
        assert action.shape == (2, 3, tiny_config("ppo").num_envs, 2)
        assert (np.abs(action - [1, 0.5]) <= [3 * NOISE + 1e-5, NOISE / 2 + 1e-5]).all()
    assert np.std(env.actions) > 0.1


def test_how_many_environments_a_call_takes_follows_from_an_actions_bytes():
    """Less than 100 000 bytes: six numbers of 4 bytes each are 24 bytes, 4166 environments."""
    six = Box((-1.0,) * 6, (1.0,) * 6)
    bridge = CallbackBridge(EnvSpec("six", Numbers((0.0,), (1.0,)), six, 9))
    assert bridge.max_envs == 4166
    assert CallbackBridge(EnvSpec("two", Numbers((0.0,), (1.0,)), Discrete(2), 9)).max_envs == 24999
    step = jax.jit(bridge.step)
    step.lower(jax.ShapeDtypeStruct((4166, 6), jnp.float32))
    with pytest.raises(ValueError, match="4167 environments of six .*at most 4166 are allowed"):
        step.lower(jax.ShapeDtypeStruct((4167, 6), jnp.float32))


# Evaluation


@cache
def program() -> tuple[Program, FixedEpisodes, np.ndarray]:
    """A program of two lanes, episodes of one level, and where each of these starts ``[E]``."""
    task: Any = BoxTask()
    suite = make_episodes(task, KEY, (0.5,), NUM_EPISODES)
    starts = jax.vmap(task.environment.reset_from)(suite.words, suite.params)[1].side
    made = make_device_program(task, make_linear, devices=jax.local_devices()[:1])
    return made, suite, np.asarray(starts)[0]


def test_the_best_policy_returns_nothing_less_and_the_centre_what_is_known():
    """Lane 0 acts at the target, lane 1 at the centre. Sampled, each of 4 steps costs the variance
    of both numbers on top, ``9.25 NOISE^2 / 3``; 500 episodes: within 4 standard errors."""
    made, suite, starts = program()
    returns = np.asarray(made.evaluate(lanes_of(2), jnp.stack([BEST, 0 * BEST]), suite).returns)
    np.testing.assert_allclose(returns[0, 0], 0, atol=1e-9)
    np.testing.assert_allclose(returns[1, 0, 0], CENTRE_WORTH * starts**2, rtol=1e-4)
    sampled = returns[0, 1, 0]
    error = sampled.std() / NUM_EPISODES**0.5
    np.testing.assert_allclose(sampled.mean(), -NUM_STEPS * 9.25 * NOISE**2 / 3, atol=4 * error)


@pytest.mark.parametrize("number", [1, 3])
def test_any_number_of_vectors_is_evaluated(number):
    """Vectors of a line from the centre to the target, as many as there are, in a program of one
    lane or more: each returns what it does beside others."""
    made, suite, starts = program()
    line = along(np.stack([0 * BEST, BEST])[None], (0.0, 0.5, 1.0))
    returns = evaluate_vectors(made, lanes_of(2), line[-number:], suite)
    assert returns.shape == (number, 2, 1, NUM_EPISODES)
    np.testing.assert_allclose(returns[-1, 0], 0, atol=1e-9)
    if number == 3:
        # Half of the way leaves half of each action's distance, a quarter of its cost.
        np.testing.assert_allclose(returns[1, 0, 0], CENTRE_WORTH / 4 * starts**2, rtol=1e-4)
        np.testing.assert_allclose(returns[0, 0, 0], CENTRE_WORTH * starts**2, rtol=1e-4)


def test_random_play_is_uniform_over_the_box():
    """A step costs ``9.25 (1/3 + s^2)``: 1/3 is the variance in [-1, 1]. 4 standard errors."""
    _, suite, starts = program()
    task: Any = BoxTask()
    host = make_host_episodes(BoxHostTask(), KEY, (0.5,), NUM_EPISODES)
    for returns, first in (
        (np.asarray(random_returns(task, suite))[0], starts),
        (random_host_returns(SPEC, host)[0], np.linspace(0, 0.5, NUM_EPISODES)),
    ):
        expected = CENTRE_WORTH * first**2 - NUM_STEPS * 9.25 / 3
        error = (returns - expected).std() / NUM_EPISODES**0.5
        np.testing.assert_allclose(returns.mean(), expected.mean(), atol=4 * error)


def test_a_host_environment_evaluates_alike():
    """The same returns as derived above, of episodes that start evenly spread."""
    lanes, task = lanes_of(2), BoxHostTask()
    made = make_host_program(task, make_linear, lanes)
    suite = make_host_episodes(task, KEY, (0.5,), 50)
    returns, lengths = made.evaluate(lanes, jnp.stack([BEST, 0 * BEST]), suite)
    assert (lengths == NUM_STEPS).all() and lengths.shape == returns.shape
    np.testing.assert_allclose(returns[0, 0], 0, atol=1e-9)
    starts = np.linspace(0, 0.5, 50)
    np.testing.assert_allclose(returns[1, 0, 0], CENTRE_WORTH * starts**2, rtol=1e-4)
    assert (returns[0, 1] < 0).all() and len(np.unique(returns[0, 1])) == 50


def test_a_suite_plays_wherever_its_environment_lives():
    """The same calls for both: the best policy loses nothing, and random play loses something."""
    policy = make_linear(tiny_config("ppo"), make_technique("gar"), SPEC).policy
    tasks: list[Any] = [BoxTask(), BoxHostTask()]
    for task in tasks:
        suite = make_suite(task, KEY, (0.5,), 20)
        returns, lengths = suite.play(policy, BEST, False, 1)
        assert (lengths == NUM_STEPS).all()
        assert returns.shape == suite.random().shape == (1, 20)
        assert returns.dtype == suite.random().dtype == np.float32
        np.testing.assert_allclose(returns, 0, atol=1e-9)
        assert (suite.random() < 0).all() and (suite.play(policy, BEST, True, 1).returns < 0).all()


# Agents


@cache
def agent() -> Agent:
    """ES, trained on the probe."""
    config = tiny_config("es", total_steps=60_000, num_envs=24, population=24,
                         episodes_per_member=1, sigma=0.1, learning_rate=0.05, hidden=[8])
    task: Any = BoxTask()
    return api.train(task, "es", config=config)[0]


@pytest.mark.slow
def test_es_learns_to_act_in_a_box():
    """Starts spread evenly over [0, 1/2]: the centre returns a mean of -1.02, and half of what an
    agent misses of the target in a step would still cost a quarter of that."""
    task: Any = BoxTask()
    returns = api.evaluate(agent(), task, (0.0, 1.0), episodes=NUM_EPISODES)
    assert CENTRE_WORTH / 12 < -1 and returns[0].mean() > -0.02
    np.testing.assert_array_equal(
        returns, api.evaluate(agent(), task, (0.0, 1.0), mode="sampled", episodes=NUM_EPISODES)
    )
    host = api.evaluate(agent(), BoxHostTask(), (0.0,), episodes=50)
    assert host.mean() > -0.02


def test_an_agent_acts_within_the_box_and_comes_back(tmp_path):
    save_agent(tmp_path / "agent", agent())
    loaded = load_agent(tmp_path / "agent")
    assert loaded.spec == SPEC and type(loaded.spec.actions) is Box
    obs = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4, 1)
    action = np.asarray(loaded.act(obs))
    np.testing.assert_array_equal(action, agent().act(obs))
    np.testing.assert_array_equal(action, agent().act(obs, jax.random.key(0)))
    assert action.shape == (3, 4, 2) and action.dtype == np.float32
    assert ((action >= BOX.low) & (action <= BOX.high)).all()
    near = loaded.act(np.array([[0.4]]))
    np.testing.assert_allclose(near, [[1 + 3 * 0.4, 0.5 - 0.5 * 0.4]], atol=0.3)
    with pytest.raises(ValueError, match="an agent of box has no preferences.*use act"):
        loaded.preferences(obs)


@pytest.mark.parametrize("sampled", [False, True])
def test_a_film_shows_what_is_scored(sampled):
    """Four steps of each of three episodes, with the returns of the evaluation."""
    task: Any = BoxTask()
    clips = films.film(agent(), task, evaluation_key(0), 0.0, 3, sampled)
    mode = "sampled" if sampled else "greedy"
    returns = api.evaluate(agent(), task, (0.0, 1.0), mode=mode, episodes=3)
    totals = [clip.total for clip in clips.values()]
    np.testing.assert_allclose(totals, returns[0], rtol=1e-4, atol=1e-6)
    assert [clip.length for clip in clips.values()] == [NUM_STEPS] * 3


def test_an_algorithm_of_numbered_actions_refuses_a_box():
    with pytest.raises(ValueError, match="dqn is not allowed on box.*Discrete ones; use"):
        ALGORITHMS["dqn"](tiny_config("dqn"), make_technique("baseline"), SPEC)

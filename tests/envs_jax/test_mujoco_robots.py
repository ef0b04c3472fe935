"""All of MuJoCo's robots: as Gymnasium at every step and level, states, options, levels."""

from typing import Any

import numpy as np
import pytest

from envs_jax.cards.mujoco import CARDS, OPTIONS, RETURNS
from envs_jax.mujoco import engine
from envs_jax.mujoco.robots import ROBOTS
from envs_jax.mujoco.tasks import MujocoTask, Simulations, describe_level
from jaxgen.evaluation.references import make_references
from jaxgen.study.spec import Evaluation
from jaxgen.training.keys import evaluation_key

mujoco = pytest.importorskip("mujoco")
gymnasium = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.skipif(bool(engine.missing()), reason="another mujoco")

NAMES = {card.name: card.aliases[0] for card in CARDS}
LEVELS = np.array([0.0, 0.0, 0.5, 1.0], np.float32)
NUM_STEPS = 250


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """The engine writes what it remarks on Gymnasium's model into a file of the current folder."""
    monkeypatch.chdir(tmp_path)


def peer(name: str, level: float, **options: Any) -> Any:
    """Gymnasium's environment whose model is shifted by hand."""
    env = gymnasium.make(NAMES[name], disable_env_checker=True, **options)
    unwrapped: Any = env.unwrapped
    model, data = unwrapped.model, unwrapped.data
    model.body_mass *= 1 + 0.5 * level
    model.body_inertia *= 1 + 0.5 * level
    model.geom_friction[:, 0] *= 1 - 0.75 * level
    model.actuator_gear *= 1 - 0.45 * level
    mujoco.mj_setConst(model, data)
    return env


def draw_actions(task: MujocoTask, num_steps: int, num: int) -> np.ndarray:
    """A little beyond the box: the engine clips, costs are of what was given."""
    reach, (_, size) = task.robot.reach, task.robot.sizes(task.options)
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (num_steps, num, size))
    return (reach * actions).astype(np.float32)


def assert_in_lockstep(task: MujocoTask, peers: list[Any], levels: np.ndarray) -> int:
    """In 64 bits, through the ends of episodes; how many ended."""
    num = len(levels)
    sims = Simulations(task, num, task.options.get("reset_noise_scale", 0.0))
    seeds, ends = np.arange(num), 0
    sims.begin(np.arange(num), seeds, levels)
    firsts: list[Any] = [env.reset(seed=int(seed))[0] for env, seed in zip(peers, seeds)]
    np.testing.assert_array_equal(sims.observe(), np.stack(firsts))
    for action in draw_actions(task, NUM_STEPS, num):
        ours = sims.step(action)
        theirs = [env.step(own)[:4] for env, own in zip(peers, action)]
        for own, other in zip(ours, zip(*theirs)):
            np.testing.assert_array_equal(own, np.stack(other))
        ended = np.flatnonzero(ours.terminated | ours.truncated)
        if ended.size:
            ends += len(ended)
            seeds[ended] += 100
            sims.begin(ended, seeds[ended], levels[ended])
            firsts = [peers[sim].reset(seed=int(seeds[sim]))[0] for sim in ended]
            np.testing.assert_array_equal(sims.observe()[ended], np.stack(firsts))
    return ends


@pytest.mark.parametrize(("name", "num_threads"), [
    *((name, 2) for name in ROBOTS), ("hopper", 1),
    *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ROBOTS if name != "hopper"),
])  # fmt: skip
def test_every_level_is_gymnasium_with_that_model(monkeypatch, name, num_threads):
    """Level 0 is Gymnasium's own model, untouched."""
    monkeypatch.setattr(engine, "num_threads", lambda: num_threads)
    own = gymnasium.make(NAMES[name], disable_env_checker=True)
    peers = [own, *(peer(name, float(level)) for level in LEVELS[1:])]
    ends = assert_in_lockstep(MujocoTask(name), peers, LEVELS)
    assert (ends == 0) == (name in ("halfcheetah", "swimmer", "humanoid_standup"))


GIVEN = {
    "frame_skip": 3, "reset_noise_scale": 0.02, "ctrl_cost_weight": 0.3,
    "forward_reward_weight": 2.5, "healthy_reward": 0.7, "terminate_when_unhealthy": False,
    "contact_cost_weight": 1e-3, "exclude_current_positions_from_observation": False,
    "include_cfrc_ext_in_observation": False, "include_cinert_in_observation": False,
    "include_cvel_in_observation": False, "include_qfrc_actuator_in_observation": False,
    "impact_cost_weight": 1e-5, "reward_dist_weight": 2.0,
    "reward_near_weight": 0.3, "reward_control_weight": 0.2, "main_body": 5,
}  # fmt: skip


@pytest.mark.parametrize("name", ROBOTS)
def test_options_are_those_of_gymnasium(name):
    """All at once."""
    names = OPTIONS[name].keys() - {"vary", "eval_reset_noise_scale"}
    options = {key: GIVEN[key] for key in names}
    assert all(OPTIONS[name][key] != value for key, value in options.items())
    assert_in_lockstep(MujocoTask(name, **options), [peer(name, 0.5, **options)], LEVELS[2:3])


@pytest.mark.parametrize("name", ROBOTS)
def test_a_fresh_object_goes_on_from_a_state(monkeypatch, name):
    """Over the ends of episodes, in a batch of another number of threads."""
    task, words = MujocoTask(name), np.arange(8, dtype=np.uint32).reshape(2, 4)
    levels = np.array([[0, 0.5], [1, 0]], np.float32)
    env = task.training(words, levels, 2, 2)
    actions = draw_actions(task, 90, 8).reshape(90, *env.shape, -1)
    for action in actions[:40]:
        env.step(action)
    state = {key: value.copy() for key, value in env.get_state().items()}
    monkeypatch.setattr(engine, "num_threads", lambda: 1)
    fresh = task.training(words + 100, np.zeros((2, 2)), 2, 2)
    fresh.set_state(state)
    for action in actions[40:]:
        for own, other in zip(fresh.step(action), env.step(action)):
            np.testing.assert_array_equal(own, other)


def test_a_body_has_a_name_or_a_number():
    """Gymnasium's own model has bodies without names: those are known by number."""
    by_name = MujocoTask("ant", main_body="front_left_leg")
    assert by_name.options["main_body"] == 2
    expected = "use the name of a body, one of torso, front_left_leg, .*, or a number below 14"
    for body in ("head", 14):
        with pytest.raises(ValueError, match=f"main_body = {body!r} is not allowed; {expected}"):
            MujocoTask("ant", main_body=body)
    with pytest.raises(ValueError, match="main_body = 1.5 is not allowed; use the number or"):
        MujocoTask("ant", main_body=1.5)


QUICK = ("hopper", "reacher", "inverted_pendulum", "inverted_double_pendulum")


@pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ROBOTS
])  # fmt: skip
def test_returns_of_random_play_are_those_of_the_card(name):
    """Of 40 other episodes than those that they were computed from, within four standard errors."""
    task = MujocoTask(name)
    references = make_references(task, Evaluation((0.0, 1.0), 40), evaluation_key(5))
    error = references.floor_standard_error[0]
    assert abs(references.floor[0] - RETURNS[name][0]) < 4 * error


def test_tables_of_levels():
    """Frozen: what a level is cannot change without a word."""
    expected = {
        0.0: "masses x 1, sliding friction x 1, gear x 1",
        0.25: "masses x 1.125, sliding friction x 0.8125, gear x 0.8875",
        0.5: "masses x 1.25, sliding friction x 0.625, gear x 0.775",
        0.75: "masses x 1.375, sliding friction x 0.4375, gear x 0.6625",
        1.0: "masses x 1.5, sliding friction x 0.25, gear x 0.55",
    }
    for name in ROBOTS:
        task = MujocoTask(name)
        assert {level: describe_level(task, level, 1) for level in expected} == expected


@pytest.mark.parametrize("name", ROBOTS)
def test_a_card_says_what_the_task_is(name):
    (card,) = (card for card in CARDS if card.name == name)
    env: Any = gymnasium.make(card.aliases[0], disable_env_checker=True)
    task = MujocoTask(name)
    assert task.spec.obs_shape == env.observation_space.shape
    assert task.spec.actions.shape == env.action_space.shape
    reach = np.full(env.action_space.shape, task.robot.reach, np.float32)
    np.testing.assert_array_equal(reach, env.action_space.high)
    np.testing.assert_array_equal(-reach, env.action_space.low)
    assert task.spec.max_episode_steps == env.spec.max_episode_steps
    floor, ceiling = RETURNS[name]
    assert floor < ceiling

"""HalfCheetah: as Gymnasium at every step and level, its episodes, states, and bad input."""

import re
from typing import Any

import jax
import numpy as np
import pytest

from envs_jax import make_task
from envs_jax.cards.mujoco import OPTIONS, VARY
from envs_jax.host.seeded import SeededVecEnv, seed_of
from envs_jax.mujoco import engine as mujoco_engine
from envs_jax.mujoco import robots as mujoco_robots
from envs_jax.mujoco.engine import FACTORS
from envs_jax.mujoco.tasks import MujocoTask, Simulations, describe_level
from jaxgen.evaluation.host_episodes import make_host_episodes, play
from jaxgen.evaluation.policy import Acting
from jaxgen.evaluation.references import make_references
from jaxgen.evaluation.tasks import check_task
from jaxgen.study.spec import Evaluation
from jaxgen.types import Box, Numbers

mujoco = pytest.importorskip("mujoco")
gymnasium = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.skipif(bool(mujoco_engine.missing()), reason="another mujoco")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """The engine writes what it remarks on Gymnasium's model into a file of the current folder."""
    monkeypatch.chdir(tmp_path)


LEVELS = np.array([0.0, 0.1, 0.25, 0.5, 1.0], np.float32)
NUM_STEPS = 1000


def words_of(num_lanes: int) -> np.ndarray:
    return np.arange(4 * num_lanes, dtype=np.uint32).reshape(num_lanes, 4)


def draw_actions(num_steps: int, *shape: int) -> np.ndarray:
    """A little beyond the box: the engine clips, the cost is of what was given."""
    generator = np.random.default_rng(0)
    return generator.uniform(-1.2, 1.2, (num_steps, *shape, 6)).astype(np.float32)


def open_simulations(levels: Any = LEVELS[None, :3], num_envs: int = 2, **kwargs: Any) -> Any:
    """Training simulations of lanes at levels ``[L, V]``."""
    levels = np.asarray(levels, np.float32)
    words = kwargs.pop("words", words_of(len(levels)))
    num_starts = kwargs.pop("num_starts", num_envs)
    return MujocoTask(**kwargs).training(words, levels, num_envs, num_starts)


SHORT = 40


@pytest.fixture
def short(monkeypatch):
    """Episodes of 40 steps."""
    robot = mujoco_robots.ROBOTS["halfcheetah"]._replace(max_episode_steps=SHORT)
    monkeypatch.setitem(mujoco_robots.ROBOTS, "halfcheetah", robot)


short_episodes = pytest.mark.usefixtures("short")


def shifted(level: Any, vary: str = "all", **options: Any) -> Any:
    """Gymnasium's environment whose model is shifted by hand."""
    env = gymnasium.make("HalfCheetah-v5", disable_env_checker=True, **options)
    model, data = env.unwrapped.model, env.unwrapped.data
    level = float(np.float32(level))
    if vary in ("all", "mass"):
        model.body_mass *= 1 + 0.5 * level
        model.body_inertia *= 1 + 0.5 * level
    if vary in ("all", "friction"):
        model.geom_friction[:, 0] *= 1 - 0.75 * level
    if vary in ("all", "gear"):
        model.actuator_gear *= 1 - 0.45 * level
    mujoco.mj_setConst(model, data)
    return env


# As Gymnasium plays


def assert_in_lockstep(task: MujocoTask, peers: list[Any], levels: np.ndarray, num: int) -> None:
    """Observations, rewards and ends are Gymnasium's in 64 bits, over two episodes if they end."""
    sims = Simulations(task, len(levels), task.options["reset_noise_scale"])
    everyone, numbers = np.arange(len(levels)), [7, 2**31 - 1, 0, 1, 5][: len(levels)]
    sims.begin(everyone, np.array(numbers), levels)
    firsts = np.stack([p.reset(seed=s)[0] for p, s in zip(peers, numbers, strict=True)])
    assert np.array_equal(sims.observe(), firsts) and firsts.dtype == np.float64
    for action in draw_actions(num, len(levels)):
        ours = sims.step(action)
        theirs = [peer.step(own)[:4] for peer, own in zip(peers, action, strict=True)]
        for own, other in zip(ours, zip(*theirs, strict=True), strict=True):
            assert np.array_equal(own, np.stack(other)), len(levels)
    assert ours.truncated.all() == (num == NUM_STEPS)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_level_is_gymnasium_with_that_model(monkeypatch, num_threads):
    """A whole episode in 64 bits; level 0 is Gymnasium's own model, untouched."""
    monkeypatch.setattr(mujoco_engine, "num_threads", lambda: num_threads)
    peers = [gymnasium.make("HalfCheetah-v5", disable_env_checker=True), *map(shifted, LEVELS[1:])]
    assert_in_lockstep(MujocoTask(), peers, LEVELS, NUM_STEPS)


@pytest.mark.parametrize("vary", VARY[1:])
def test_one_factor_alone_can_be_shifted(vary):
    task = MujocoTask(vary=vary)
    assert_in_lockstep(task, [shifted(v, vary) for v in LEVELS[3:]], LEVELS[3:], 100)
    assert describe_level(task, 0.5, 1) in (
        "masses x 1.25", "sliding friction x 0.625", "gear x 0.775",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"frame_skip": 2, "reset_noise_scale": 0.3},
        {"forward_reward_weight": 2.5, "ctrl_cost_weight": 0.7},
        {"exclude_current_positions_from_observation": False},
    ],
)
def test_options_are_those_of_gymnasium(options):
    task = MujocoTask(**options)
    assert_in_lockstep(task, [shifted(0.5, **options)], LEVELS[3:4], 100)
    assert task.spec.obs_shape == (17 + (len(options) == 1),)


def test_training_is_gymnasium_in_32_bits_through_the_ends_of_episodes():
    """Lanes x variations x environments, each episode from its seed; 1 100 steps."""
    levels = LEVELS[[[0, 2], [3, 4]]]
    env = open_simulations(levels, 1)
    places = list(np.ndindex(env.shape))
    peers = [shifted(level) for level in levels.reshape(-1)]
    seeds = [
        [seed_of(words_of(2)[lane], variation, 0, 9, count) for count in (0, 1)]
        for lane, variation, _ in places
    ]
    obs = [peer.reset(seed=own[0])[0] for peer, own in zip(peers, seeds, strict=True)]
    assert np.array_equal(env.reset(9).reshape(4, 17), np.array(obs, np.float32))
    totals = np.zeros(4)
    for time, action in enumerate(draw_actions(1100, *env.shape), 1):
        step = env.step(action)
        assert step.obs.dtype == step.reward.dtype == np.float32
        assert (step.truncated == (time == NUM_STEPS)).all() and not step.terminated.any()
        for index, place in enumerate(places):
            after, reward, *_ = peers[index].step(action[place])
            totals[index] += reward * (time <= NUM_STEPS)
            assert step.reward[place] == np.float32(reward)
            assert np.array_equal(step.next_obs[place], after.astype(np.float32))
            if time == NUM_STEPS:
                after, _ = peers[index].reset(seed=seeds[index][1])
            assert np.array_equal(step.obs[place], after.astype(np.float32))
    for lane in range(2):
        log = env.episodes(lane)
        of_lane = slice(2 * lane, 2 * lane + 2)
        assert log["variation"].tolist() == [0, 1] and log["length"].tolist() == [1000] * 2
        assert log["level_seed"].tolist() == [own[0] for own in seeds[of_lane]]
        np.testing.assert_allclose(log["return"], totals[of_lane], rtol=1e-6)


# Starts


def test_a_lane_plays_the_same_whatever_is_beside_it():
    levels = LEVELS[[[0, 1, 2], [0, 0, 0], [4, 3, 2]]]
    whole = open_simulations(levels)
    alone = [open_simulations(levels[[i]], words=words_of(3)[[i]]) for i in range(3)]
    for action in draw_actions(20, *whole.shape):
        step = whole.step(action)
        for lane, env in enumerate(alone):
            for own, other in zip(env.step(action[[lane]]), step, strict=True):
                assert np.array_equal(own[0], other[lane])


def test_a_number_gives_the_same_starts_whenever_it_comes():
    env, other = open_simulations(), open_simulations()
    first = env.reset(5)
    for action in draw_actions(10, *env.shape):
        other.step(action)
    assert np.array_equal(other.reset(5), first)
    assert len(np.unique(first[..., 0])) == first[..., 0].size
    assert (other.reset(6) != first).all()


def test_starts_are_repeated_in_order():
    env = open_simulations(num_envs=6, num_starts=2)
    first = env.reset(0)
    assert np.array_equal(first[:, :, 2:4], first[:, :, :2])
    assert np.array_equal(first[:, :, 4:], first[:, :, :2])
    assert (first[:, :, 0] != first[:, :, 1]).all()
    with pytest.raises(ValueError, match="num_starts = 4 is not allowed; use a divisor of num_env"):
        open_simulations(num_envs=6, num_starts=4)


# States


def played(num_steps: int, levels: Any, **kwargs: Any) -> SeededVecEnv:
    env = open_simulations(levels, **kwargs)
    for action in draw_actions(num_steps, *env.shape):
        env.step(action)
    return env


PLACES = LEVELS[[[0, 1], [3, 4]]]


@short_episodes
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_fresh_object_goes_on_from_a_state(monkeypatch, tmp_path, num_threads):
    """From the middle of an episode, through a file, over its end and the next start."""
    env = played(25, PLACES)
    np.savez(tmp_path / "state.npz", allow_pickle=False, **env.get_state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as archive:
        state = dict(archive)
    monkeypatch.setattr(mujoco_engine, "num_threads", lambda: num_threads)
    fresh = open_simulations(np.zeros((2, 2)), words=words_of(2) + 100)
    fresh.set_state(state)
    for action in draw_actions(60, *env.shape):
        for own, other in zip(fresh.step(action), env.step(action), strict=True):
            assert np.array_equal(own, other)
    final, restored = env.get_state(), fresh.get_state()
    assert set(final) == set(restored) and len(final["log_returns"]) == 16
    for name, value in final.items():
        assert np.array_equal(value, restored[name]), name


@short_episodes
def test_a_lane_goes_on_from_the_state_of_another():
    """Lane 0 from the original's lane 1, of other levels; lane 1 goes on untouched."""
    env, other, expected = (played(num, PLACES) for num in (25, 15, 15))
    other.set_state(env.get_state(1), 0)
    for action in draw_actions(30, *env.shape):
        theirs, untouched = env.step(action[::-1]), expected.step(action)
        ours = other.step(action)
        for values, moved, own in zip(ours, theirs, untouched, strict=True):
            assert np.array_equal(values[0], moved[1])
            assert np.array_equal(values[1], own[1])
    for lane, reference in ((0, env), (1, expected)):
        log = other.episodes(lane)
        assert len(log["length"]) == 4
        for name, values in reference.episodes(1).items():
            assert np.array_equal(log[name], values), name


def test_after_a_shift_a_simulation_is_as_new_at_level_0():
    """A reset puts every place back into its own level's world."""
    env, fresh = open_simulations(np.zeros((1, 2))), open_simulations(np.zeros((1, 2)))
    env.set_state(played(3, [[1, 0.5]]).get_state())
    assert np.array_equal(env.reset(1), fresh.reset(1))
    for action in draw_actions(50, *env.shape):
        assert np.array_equal(env.step(action).obs, fresh.step(action).obs)


def test_a_state_of_a_lane_does_not_fit_all():
    env = played(1, PLACES)
    with pytest.raises(ValueError, match=r"engine of shape \(4, 91\) does not fit \(8, 91\)"):
        env.set_state(env.get_state(0))
    with pytest.raises(ValueError, match="a state with seeds of shape None does not fit"):
        env.set_state({k: v for k, v in env.get_state().items() if k != "seeds"})


# Evaluation


def still(num: int) -> Acting:
    return Acting(lambda obs, words: np.full((len(obs), 6), num / 10, np.float32), 1)


@short_episodes
@pytest.mark.parametrize("num_slots", [1, 3])
def test_evaluation_episodes_are_those_of_gymnasium(num_slots):
    """Two levels x two episodes with the same two starts, on any number of slots."""
    queued = make_host_episodes(MujocoTask(), jax.random.key(3), (0.0, 1.0), 2)
    episodes = MujocoTask().evaluation(np.ones((2, 4), np.uint32), (0.0, 1.0), 2, num_slots)
    episodes.level_seeds = queued.episodes.level_seeds
    returns = play(MujocoTask().spec, queued._replace(episodes=episodes, num_slots=num_slots),
                   still(3)).returns  # fmt: skip
    assert (episodes.level_seeds[0] == episodes.level_seeds[1]).all()
    for row, level in enumerate((0.0, 1.0)):
        peer = shifted(level)
        for column, seed in enumerate(episodes.level_seeds[row]):
            peer.reset(seed=int(seed))
            action = np.full(6, 0.3, np.float32)
            rewards = [np.float32(peer.step(action)[1]) for _ in range(SHORT)]
            total = np.float32(0)
            for reward in rewards:
                total += reward
            assert returns[row, column] == total


def test_starts_of_evaluation_depend_on_the_key_alone():
    """Whatever levels are beside: a film of one level shows the episodes of the study."""
    task, key = MujocoTask(eval_reset_noise_scale=0.0), jax.random.key(3)
    many = make_host_episodes(task, key, (0.0, 0.5, 1.0), 3).episodes
    few = make_host_episodes(task, key, (0.5,), 2).episodes
    assert np.array_equal(many.level_seeds[1, :2], few.level_seeds[0])
    other = make_host_episodes(task, jax.random.key(4), (0.5,), 2).episodes
    assert (few.level_seeds != other.level_seeds).all()
    # Without noise all of them start in the pose itself, while training has its noise.
    assert (few.start(np.arange(2), np.arange(2)) == 0).all()
    assert (task.training(words_of(1), LEVELS[None, :1], 1, 1).reset(0) != 0).all()


@short_episodes
def test_the_upper_reference_is_that_of_level_0_at_every_level():
    evaluation = Evaluation(levels=(0.0, 1.0), episodes=2)
    references = make_references(MujocoTask(), evaluation, jax.random.key(0))
    assert references.ceiling.tolist() == [11_321.0] * 2
    assert references.floor[0] != references.floor[1]


# The task


def test_the_task_is_as_its_protocol_says():
    task = make_task("HalfCheetah-v5")
    check_task(task)
    assert task.spec.name == "halfcheetah" and task.spec.truncates
    assert task.spec.actions == Box((-1.0,) * 6, (1.0,) * 6)
    assert type(task.spec.observation) is Numbers and task.spec.max_episode_steps == 1000
    assert task.options == {**OPTIONS["halfcheetah"]} | {"eval_reset_noise_scale": 0.1}
    assert ("all", *FACTORS) == VARY


REFUSED = [
    ({"vary": "gravity"}, "vary = 'gravity' is not allowed; use one of all, mass, friction, gear"),
    ({"frame_skip": 0}, "frame_skip = 0 is not allowed; use a whole number from 1 on"),
    ({"frame_skip": 2.5}, "frame_skip = 2.5 is not allowed; use a whole number from 1 on"),
    ({"reset_noise_scale": -1}, "reset_noise_scale = -1 is not allowed; use a finite number, 0 or"),
    ({"ctrl_cost_weight": float("nan")}, "ctrl_cost_weight = nan is not allowed; use a finite"),
    ({"exclude_current_positions_from_observation": 1}, "= 1 is not allowed; use True or False"),
    ({"gravity": 9.81}, "halfcheetah has no option 'gravity'; allowed: vary, frame_skip, "),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_are_not_allowed_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MujocoTask(**options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_no_number_pays_nan_and_leaves_the_others_alone(bad):
    good, env = open_simulations(), open_simulations()
    action = np.full((*env.shape, 6), 0.5, np.float32)
    for _ in range(3):
        usual = good.step(action)
    action[0, 1, 1, 4] = bad
    for _ in range(3):
        step = env.step(action)
    at = np.zeros(env.shape, bool)
    at[0, 1, 1] = True
    assert np.isnan(step.reward[at]).all() and np.isfinite(step.obs).all()
    for found, expected in zip(step, usual):
        assert np.array_equal(found[~at], expected[~at])
    assert not np.array_equal(step.obs[at], usual.obs[at])


def test_what_the_engine_reports_is_one_line_that_names_the_environment():
    """Speeds that are too large for it; the next step is free of the old report."""
    env = open_simulations()
    good = env.get_state()
    env._sims.bodies.qvel[1] = 1e12
    action = np.zeros((*env.shape, 6), np.float32)
    with pytest.raises(ValueError, match="halfcheetah: simulation 1 is unstable") as error:
        env.step(action)
    assert "mjWARN_BAD" in str(error.value) and "\n" not in str(error.value)
    env.set_state(good)
    env.step(action)


@pytest.mark.parametrize("found", [None, "3.10.0"])
def test_without_this_version_one_line_says_what_to_install(monkeypatch, found):
    monkeypatch.setattr(mujoco_engine, "installed", lambda: found)
    with pytest.raises(ValueError, match='pip install "mujoco==3.17.0"') as error:
        open_simulations()
    assert str(error.value).startswith("halfcheetah cannot be played: mujoco")
    assert make_task("halfcheetah").spec.name == "halfcheetah"


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan")])
def test_levels_outside_of_the_axis_are_refused(level):
    with pytest.raises(ValueError, match=f"variation level {level:g} is not allowed"):
        open_simulations([[level]])

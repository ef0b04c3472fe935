"""Any environment of Gymnasium: its own episodes, levels, states that are played again."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from envs_jax import make_task
from envs_jax.cards import gymnasium as cards
from envs_jax.cards.gymnasium import PREFIX, id_of, registry_name_of, varied
from envs_jax.varying import describe_level
from experiments import command_line, matrix
from experiments.command_line import parse, study_of
from jaxgen import evaluate, train
from jaxgen.__main__ import main as jaxgen_main
from jaxgen.evaluation.host_episodes import make_host_episodes, play
from jaxgen.evaluation.policy import Acting
from jaxgen.evaluation.saving import load_agent
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card
from jaxgen.types import Box, Discrete, Image, Numbers
from small_runs import refused, run

gymnasium = pytest.importorskip("gymnasium")
toys = pytest.importorskip("toy_gymnasium")
from envs_jax.host.gymnasium_envs import GymnasiumTask, GymnasiumWorlds  # noqa: E402

LEVELS = np.array([[0.0, 1.0]], np.float32)
WORDS = np.arange(4, dtype=np.uint32)[None]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Cards that are made here are gone afterwards."""
    before = dict(ENVIRONMENT_CARDS)
    yield
    ENVIRONMENT_CARDS.clear()
    ENVIRONMENT_CARDS.update(before)


def actions_for(task: GymnasiumTask, *shape: int) -> np.ndarray:
    """Random actions ``[*shape, ...]``."""
    random, space = np.random.default_rng(0), task.spec.actions
    if isinstance(space, Discrete):
        return random.integers(0, space.num, shape).astype(np.int32)
    low, high = np.array(space.low), np.array(space.high)
    return (low + random.random((*shape, len(low))) * (high - low)).astype(np.float32)


REAL = {
    "CartPole-v1": ({"force_mag": (10.0, 20.0)}, {}),
    # An attribute of the class.
    "Acrobot-v1": ({"LINK_MASS_1": (1.0, 3.0)}, {}),
    "MountainCarContinuous-v0": ({"power": (0.0015, 0.001)}, {}),
    "LunarLander-v3": ({"gravity": (-10.0, -6.0)}, {"continuous": True}),
    "toys/Slide-v0": ({"mass": (1.0, 2.0)}, {}),
    "toys/Picture-v0": ({"mass": (1.0, 2.0)}, {}),
    "toys/Digits-v0": ({"mass": (1.0, 2.0)}, {}),
}


def real_task(id: str) -> GymnasiumTask:
    if id.startswith("Lunar"):
        pytest.importorskip("Box2D")
    vary, make = REAL[id]
    return GymnasiumTask(id, vary, reference=1.0, make=make)


@pytest.mark.parametrize("id", REAL)
def test_episodes_are_those_of_gymnasium(id):
    """Observations, rewards and ends at levels 0 and 1, through the ends of episodes, each of which
    starts from its own seed with the attribute set."""
    task = real_task(id)
    (name, ends), = task.vary.items()
    env = task.training(WORDS, LEVELS, 2, 2)
    peers = [gymnasium.make(id, disable_env_checker=True, **REAL[id][1]) for _ in range(4)]

    def begin(slot: int) -> Any:
        setattr(peers[slot].unwrapped, name, ends[slot // 2])
        return np.ravel(peers[slot].reset(seed=int(env._slots.seeds[slot]))[0])

    expected, ended = np.stack([begin(slot) for slot in range(4)]), 0
    obs = env.reset(0)
    assert len(set(env._slots.seeds)) == 4
    for action in actions_for(task, 150, *env.shape):
        np.testing.assert_array_equal(obs.reshape(4, -1), expected.astype(task.spec.obs_dtype))
        step = env.step(action)
        given = action.reshape(4, *task.spec.actions.shape)
        for slot, (peer, own) in enumerate(zip(peers, given, strict=True)):
            space: Any = peer.action_space
            chosen = space.start + int(own) if own.shape == () else own.reshape(space.shape)
            seen, reward, terminated, truncated, _ = peer.step(chosen)
            row = np.ravel(step.next_obs[0, slot // 2, slot % 2])
            np.testing.assert_array_equal(row, np.ravel(seen).astype(row.dtype))
            paid, *flags = (leaf.reshape(4)[slot] for leaf in step[1:4])
            assert (paid, *flags) == (np.float32(reward), terminated, truncated)
            expected[slot] = np.ravel(seen)
            if terminated or truncated:
                ended += 1
                expected[slot] = begin(slot)
        obs = step.obs
    assert ended or id in ("Acrobot-v1", "MountainCarContinuous-v0")
    assert len(env.episodes(0)["return"]) == ended


@pytest.mark.parametrize("id", REAL)
def test_a_fresh_object_goes_on_from_a_state(id):
    """From the middle of episodes, by the same actions, over their ends."""
    task = real_task(id)
    env, fresh = (task.training(words, LEVELS, 2, 2) for words in (WORDS, WORDS + 7))
    actions = actions_for(task, 60, *env.shape)
    for action in actions[:31]:
        env.step(action)
    state = {name: value.copy() for name, value in env.get_state().items()}
    fresh.set_state(state)
    for action in actions[31:]:
        for own, other in zip(fresh.step(action), env.step(action), strict=True):
            np.testing.assert_array_equal(own, other)


def test_a_lane_goes_on_alone():
    """Lane 1 is set back, lane 0 goes on."""
    task = GymnasiumTask("toys/Slide-v0")
    words = np.arange(8, dtype=np.uint32).reshape(2, 4)
    env, other = (task.training(words, np.zeros((2, 1)), 2, 2) for _ in range(2))
    actions = actions_for(task, 30, *env.shape)
    for number, action in enumerate(actions[:20]):
        if number == 10:
            state = env.get_state(1)
        env.step(action)
        other.step(action)
    env.set_state(state, 1)
    for action in actions[20:]:
        ours, theirs = env.step(action), other.step(action)
        np.testing.assert_array_equal(ours.obs[0], theirs.obs[0])
        assert (ours.obs[1] != theirs.obs[1]).any()


def test_what_is_not_repeated_is_cut_off_with_a_warning():
    """The observation stands, nothing is paid, the successor of a truncation is what was seen."""
    task = GymnasiumTask("toys/Forgetful-v0")
    env = task.training(WORDS, LEVELS, 1, 1)
    actions = actions_for(task, 8, *env.shape)
    for action in actions[:5]:
        before = env.step(action).obs
    state = env.get_state()
    with pytest.warns(UserWarning, match="2 of 2 running episodes lead elsewhere"):
        env.set_state(state)
    step = env.step(actions[5])
    assert step.truncated.all() and not step.terminated.any() and not step.reward.any()
    np.testing.assert_array_equal(step.next_obs, before)
    assert (step.obs != before).any() and list(env.episodes(0)["length"]) == [5, 5]
    assert not env.step(actions[6]).truncated.any()


def test_a_policy_that_diverged_moves_nothing_and_ends_in_time():
    task = GymnasiumTask("toys/Slide-v0")
    env = task.training(WORDS, LEVELS, 1, 1)
    first = env.reset(0)
    actions = actions_for(task, toys.LIMIT, *env.shape)
    actions[:, 0, 1] = np.nan
    for number, action in enumerate(actions):
        step = env.step(action)
        assert np.isnan(step.reward[0, 1, 0]) and np.isfinite(step.reward[0, 0, 0])
        np.testing.assert_array_equal(step.next_obs[0, 1], first[0, 1])
        assert step.truncated[0, 1, 0] == (number == toys.LIMIT - 1)


@pytest.mark.parametrize("num_slots", [1, 3])
def test_evaluation_episodes_do_not_depend_on_slots(num_slots):
    task = GymnasiumTask("toys/Slide-v0", {"mass": (1.0, 3.0)})
    queued = make_host_episodes(task, jax.random.key(3), (0.0, 1.0), 3)
    words = np.ones((2, 4), np.uint32)
    episodes = task.evaluation(words, (0.0, 1.0), 3, num_slots)
    pushes = Acting(lambda obs, words: np.full((len(obs), 1), 0.2, np.float32), 1)
    queued = queued._replace(episodes=episodes, num_slots=num_slots)
    returns = play(task.spec, queued, pushes).returns
    for row, mass in enumerate((1.0, 3.0)):
        for seed, total in zip(episodes.level_seeds[row], returns[row], strict=True):
            peer = toys.Slide()
            peer.mass = mass
            peer.reset(seed=int(seed))
            expected = np.float32(0)
            for _ in range(toys.LIMIT):
                _, reward, ends, _, _ = peer.step(np.array([[0.4]], np.float32))
                expected += np.float32(reward)
                if ends:
                    break
            assert total == expected


def test_spaces():
    """Vectors lose their shape, images keep it, numbers that begin anywhere are one number."""
    slide, picture, digits = (
        GymnasiumTask(f"toys/{name}-v0").spec for name in ("Slide", "Picture", "Digits")
    )
    assert slide.observation == Numbers((-np.inf,) * 2, (np.inf,) * 2)
    assert slide.actions == Box((-2.0,), (2.0,)) and slide.max_episode_steps == toys.LIMIT
    assert picture.observation == Image(40, 40, 3)
    assert digits.observation == Numbers((5.0,), (14.0,))
    discrete = GymnasiumTask("toys/Slide-v0", make={"discrete": True})
    assert discrete.spec.actions == Discrete(3)
    env = discrete.training(WORDS, np.zeros((1, 1)), 3, 3)
    speeds = env.reset(0)[0, 0, :, 1]
    after = env.step(np.arange(3, dtype=np.int32)[None, None]).next_obs[0, 0, :, 1]
    np.testing.assert_allclose(after - speeds, [-0.3, 0, 0.3], atol=0.1)


def test_images_with_a_box_of_actions():
    """CarRacing of Gymnasium: 96 x 96 in colour, steering, gas and brake with ends of their own."""
    pytest.importorskip("Box2D")
    task = GymnasiumTask("CarRacing-v3")
    assert task.spec.observation == Image(96, 96, 3)
    assert task.spec.actions == Box((-1.0, 0.0, 0.0), (1.0, 1.0, 1.0)) and task.reference == 900
    env = task.training(WORDS, np.zeros((1, 1)), 1, 1)
    first, step = env.reset(0), env.step(np.array([[[[0.0, 1.0, 0.0]]]], np.float32))
    assert first.shape == step.obs.shape == (1, 1, 1, 96, 96, 3) and step.obs.dtype == np.uint8
    assert (first != step.obs).any()
    setups = environment_card(f"{PREFIX}CarRacing-v3").setups
    assert list(setups) == ["ppo"] and setups["ppo"].config.network == "nature"


def test_pictures_are_those_of_gymnasium():
    """After a reset, after steps, in the next episode."""
    pytest.importorskip("pygame")
    task = GymnasiumTask("CartPole-v1", {"force_mag": (10.0, 20.0)})
    episodes = task.evaluation(WORDS, (1.0,), 2, 1)
    peer = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    peer.unwrapped.force_mag = 20.0
    slot = np.zeros(1, int)
    for number in range(2):
        episodes.start(slot, slot + number)
        peer.reset(seed=int(episodes.level_seeds[0, number]))
        for time in range(5):
            if time != 1:
                np.testing.assert_array_equal(episodes.render(0), peer.render())
            episodes.step(np.ones(1, np.int32))
            peer.step(1)


def test_what_gymnasium_does_not_draw_is_said():
    episodes = GymnasiumTask("toys/Slide-v0").evaluation(WORDS, (0.0,), 1, 1)
    cannot = pytest.raises(ValueError, match="gymnasium cannot make 'toys/Slide-v0': .*render_mode")
    with cannot, pytest.warns(UserWarning, match="render_mode"):
        episodes.render(0)


# Names, cards, what cannot be


def test_registry_names_stand_for_all_names():
    for id in ("LunarLander-v3", "ALE/Pong-v5", "my.module:toys/Slide-v0"):
        name = registry_name_of(id)
        assert id_of(name) == id and not set("/:~") & set(name)
    assert registry_name_of("toys/Slide-v0") == f"{PREFIX}toys+Slide-v0"


def test_algorithms_are_those_that_act_so(monkeypatch):
    numbered = environment_card(f"{PREFIX}CartPole-v1")
    assert set(numbered.setups) == {"ppo", "grpo", "es", "dqn"}
    box = environment_card(f"{PREFIX}MountainCarContinuous-v0")
    assert set(box.setups) == {"ppo", "grpo", "es", "sac", "td3"}
    discrete = varied("gymnasium:toys/Slide-v0", {}, make={"discrete": True})
    assert set(discrete.setups) == {"ppo", "grpo", "es", "dqn"}
    unknown = environment_card(f"{PREFIX}Nothing-v0")
    assert set(unknown.setups) == {"ppo", "grpo", "es", "dqn", "sac", "td3"}
    monkeypatch.setattr(cards.importlib.util, "find_spec", lambda name: None)
    absent = environment_card(f"{PREFIX}Acrobot-v1")
    assert "gymnasium is not installed; install it: pip" in (absent.task.missing() or "")


def test_levels_in_words():
    task = GymnasiumTask("toys/Slide-v0", {"mass": (1.0, 2.0)})
    assert describe_level(task, 0.25, 1) == "mass 1.25"
    assert describe_level(GymnasiumTask("toys/Slide-v0"), 1.0, 1) == "as it is"


@pytest.mark.parametrize(
    ("id", "arguments", "message"),
    [
        ("Nothing-v0", {}, "gymnasium cannot make 'Nothing-v0': Environment `Nothing`"),
        ("no.module:Toy-v0", {}, "gymnasium cannot make 'no.module:Toy-v0': .*No module"),
        ("toys/Endless-v0", {}, "toys/Endless-v0 has no time limit that is known"),
        ("toys/Unknown-v0", {}, "the best return of toys/Unknown-v0 is not known; give"),
        ("toys/Pairs-v0", {}, "toys/Pairs-v0 shows Dict spaces; only Box and Discrete can be read"),
        ("toys/Switches-v0", {}, "toys/Switches-v0 has actions of MultiDiscrete; only"),
        ("toys/Slide-v0", {"vary": {"name": (1, 2)}}, "the attribute 'name' is 'block', no number"),
        ("toys/Slide-v0", {"vary": {"weight": (1, 2)}}, "'weight' does not exist; use one of mass"),
        ("toys/Slide-v0", {"vary": {"mass": (2, 2)}}, "mass = 2:2 varies nothing"),
        ("CartPole-v1", {"vary": {"masspole": (0.1, 1)}}, "'masspole' is read when the environ"),
        ("CartPole-v1", {"vary": {"length": (0.5, 1)}}, "what is computed of it there would stay"),
        ("CartPole-v1", {"make": {"no": 1}}, "cartpole is the same environment.*--env cartpole"),
        ("toys/Slide-v0", {"make": {"colour": 1}}, "cannot make 'toys/Slide-v0': .*'colour'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(id, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        GymnasiumTask(id, **arguments)
    assert "\n" not in str(error.value)


COMMAND = ["--env", "gymnasium:toys/Slide-v0", "--algo", "ppo", "--technique", "dr", "--seeds", "0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vary", "weight=1:2"], "toys/Slide-v0: the attribute 'weight' does not exist"),
        (["--vary", "mass=heavy"], "--vary 'mass=heavy' is not allowed; write PARAMETER=LOW:HIGH"),
        (["--task", "discrete"], "--task 'discrete' is not allowed; use NAME=VALUE"),
        (["--task", "max_episode_steps=0"], "max_episode_steps"),
        (["--algo", "dqn"], "dqn"),
    ],
)
def test_a_command_that_cannot_be_is_refused_in_one_line(capsys, words, message, tmp_path):
    words = [*COMMAND, *words, "--out", str(tmp_path), "--quick"]
    refused(matrix.main, "matrix.py", words, capsys, message)


def test_a_common_start_that_cannot_be_is_refused_before_training(capsys, tmp_path):
    """Its seed does not decide an episode."""
    words = ["--env", "gymnasium:toys/Forgetful-v0", "--algo", "grpo", "--technique", "dr"]
    words += ["--seeds", "0", "--quick", "--no-plots", "--out", str(tmp_path)]
    assert matrix.main([*words, "--set", "same_start=true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "begins the same episode in different states, so that its seed does not decide" in line
    assert not list(tmp_path.rglob("seed_*"))


@pytest.mark.slow
def test_without_common_starts_what_cannot_have_them_is_trained_on(tmp_path):
    words = ["--env", "gymnasium:toys/Forgetful-v0", "--algo", "grpo", "--technique", "dr"]
    words += ["--seeds", "0", "--quick", "--no-plots", "--out", str(tmp_path)]
    assert matrix.main(words) == 0
    assert list(tmp_path.rglob("seed_*"))


def test_jax_is_set_up_before_a_library_imports_it(monkeypatch):
    """How many devices there are, and what XLA prints, is decided as JAX is imported."""
    calls, varied = [], command_line.gymnasium.varied
    monkeypatch.setattr(command_line, "configure", lambda args: calls.append("configure"))
    monkeypatch.setattr(
        command_line.gymnasium, "varied", lambda *args: calls.append("varied") or varied(*args)
    )
    study_of(parse(study_words()))
    assert calls == ["configure", "varied"]


def study_words(*others: str) -> list[str]:
    return [*COMMAND, "--vary", "mass=1:2", "--total-steps", "1536", "--eval-episodes", "3",
            "--set", "num_envs=2", "num_steps=64", "num_minibatches=4", *others]  # fmt: skip


@pytest.mark.slow
def test_agents_of_a_module_are_played_and_filmed_again(tmp_path, capsys):
    """Its name is one that files, films and evaluations take; Python takes a person's words."""
    id = "gymnasium:toy_gymnasium:toys/Slide-v0"
    words = ["--env", id, "--algo", "ppo", "--technique", "dr", "--seeds", "0", "--quick"]
    assert matrix.main([*words, "--no-plots", "--out", str(tmp_path)]) == 0
    evaluated = ["--evaluate", str(tmp_path), "--levels", "0", "--episodes", "3"]
    assert matrix.main(evaluated) == 0
    (file,) = tmp_path.glob("best_models/*_best.npz")
    with pytest.warns(UserWarning, match="render_mode"):
        assert jaxgen_main(["watch", str(file), "--out", str(tmp_path / "film.gif")]) == 2
    assert "gymnasium cannot make 'toy_gymnasium:toys/Slide-v0'" in capsys.readouterr().err
    agent = load_agent(file)
    assert evaluate(agent, id, [0.0], episodes=3).shape == (1, 3)
    config = dataclasses.replace(agent.config, total_steps=2 * agent.config.steps_per_iteration)
    (again,) = train(id, "ppo", seeds=[1], config=config)
    assert again.spec == agent.spec


def test_an_agent_is_played_with_the_options_that_it_was_trained_with(tmp_path):
    """Where its task is named; another task may be given as a whole."""
    run(study_of(parse(study_words())), tmp_path)
    agent = load_agent(next(tmp_path.glob("runs/*/seed_0000")))
    own = GymnasiumTask("toys/Slide-v0", {"mass": (1.0, 2.0)})
    by_name, by_task, usual = (
        evaluate(agent, task, [1.0], episodes=4)
        for task in (agent.spec.name, own, GymnasiumTask("toys/Slide-v0"))
    )
    np.testing.assert_array_equal(by_name, by_task)
    assert (by_name != usual).any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "pendulum", "--reference", "100"], "--reference 100 is of environments of gymn"),
        (["--env", "hopper", "--task", "frame_skip=4", "frame_skip=5"], "frame_skip is given twi"),
        (["--env", "LunarLander-v3"], "perhaps gymnax:LunarLander-v3 or gymnasium:LunarLander-v3"),
        (["--env", "hoper"], "'hoper' is unknown, perhaps hopper"),
        (["--env", "gymnasium:CartPole-v1", "--algo", "sac"], "use one of ppo, dqn, es, grpo"),
    ],
)
def test_words_that_mean_something_else_are_refused(capsys, tmp_path, words, message):
    words = [*words, "--technique", "dr", "--seeds", "0", "--out", str(tmp_path)]
    refused(matrix.main, "matrix.py", words, capsys, message)


def test_an_observation_of_another_shape_is_named():
    worlds = GymnasiumWorlds(GymnasiumTask("toys/Slide-v0"), 1)
    with pytest.raises(ValueError, match=r"shape \[3\], and its space is of \[2\]; mend the env"):
        worlds._show(0, np.zeros(3))


def test_a_study_on_one_needs_no_code(tmp_path):
    """From the command line to an agent, whose file makes the task without the command line."""
    study = study_of(parse(study_words()))
    run(study, tmp_path)
    (spec,) = study.groups[0].specs
    assert spec.environment == f"{PREFIX}toys+Slide-v0"
    agent = load_agent(next(tmp_path.glob("runs/*/seed_0000")))
    del ENVIRONMENT_CARDS[spec.environment]
    task = make_task(agent.spec.name, **agent.task_options or {})
    assert task.vary == {"mass": (1.0, 2.0)} and task.spec == agent.spec

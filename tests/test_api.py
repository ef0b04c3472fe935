"""The Python API from end to end, at budgets of a few iterations."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgen
from envs_jax import make_task
from jaxgen import api, compute_grs, evaluate, load_agent, save_agent, train
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.episodes import make_episodes
from jaxgen.evaluation.references import References
from jaxgen.evaluation.scores import Scores, score_curve
from jaxgen.running import together
from jaxgen.study.config import SHIFT_LEVELS, replace
from jaxgen.study.presets import preset
from jaxgen.study.spec import Evaluation
from jaxgen.system import archives, checkpoint, platform
from jaxgen.system.files import DamagedFile
from jaxgen.training.keys import evaluation_key
from jaxgen.training.memory import Memory
from jaxgen.training.program import Capacity, Carry, LaneLearner, Program, World
from jaxgen.types import Codes, Discrete, EnvSpec, Image, Numbers
from probe_envs import MATCH, PROBES, ProbeTask, tiny_config

ROOT = Path(__file__).parents[1]
CARTPOLE, GRID = make_task("cartpole"), make_task("minigrid", bank_size=16)
PROBE = ProbeTask(*PROBES.values())
SHORT = {"total_steps": 1920}
"""5 iterations of PPO on CartPole."""


def trained(technique: str = "gar", seeds: Any = (3, 5), **overrides: Any) -> list[Agent]:
    """PPO on CartPole; two seeds, or one and its padding, are one program on two devices."""
    return train(CARTPOLE, "ppo", technique, seeds, **(SHORT | overrides))


@pytest.fixture(scope="module")
def agents() -> list[Agent]:
    return trained()


def untrained(algorithm: str, task: Any = CARTPOLE, technique: str = "baseline") -> Agent:
    """An agent with random parameters; compiles nothing."""
    config = preset(algorithm, task.spec.name)
    agent = Agent(algorithm, technique, config, task.spec, np.zeros(0, np.float32))
    functions = agent.functions()
    shape = jax.eval_shape(lambda key: functions.params(functions.init(key)), jax.random.key(0))
    draws = np.random.default_rng(0).normal(0, 0.3, shape.shape)
    return agent._replace(params=draws.astype(np.float32))


def assert_same_agent(one: Agent, other: Agent) -> None:
    np.testing.assert_array_equal(one.params, other.params, strict=True)
    apart: dict[str, Any] = {"params": 0, "history": {}}
    assert one._replace(**apart) == other._replace(**apart)


# Training.


def test_an_agent_per_seed(agents):
    assert [agent.seed for agent in agents] == [3, 5]
    for agent in agents:
        assert (agent.algorithm, agent.technique) == ("ppo", "gar")
        assert agent.spec == CARTPOLE.spec
        assert agent.config == replace(preset("ppo", "cartpole"), SHORT)
        assert np.asarray(agent.params).dtype == np.float32
        assert np.isfinite(agent.params).all()
    assert (np.asarray(agents[0].params) != np.asarray(agents[1].params)).any()


@pytest.mark.slow
def test_several_seeds_equal_each_alone(agents):
    """Bit by bit, also where a device has more lanes."""
    assert_same_agent(trained(seeds=[4, 5, 6, 7, 8])[1], agents[1])
    assert_same_agent(trained(seeds=[5])[0], agents[1])
    backwards = trained(seeds=[5, 3])
    assert_same_agent(backwards[0], agents[1])
    assert_same_agent(backwards[1], agents[0])


def test_techniques_are_trained(agents):
    """The same seed, other levels, weights and decay: other parameters, without a new program."""
    programs = set(together._programs)
    for technique in ("baseline", "dr", "reg+gar"):
        agent = trained(technique)[0]
        assert agent.technique == {"reg+gar": "gar+reg"}.get(technique, technique)
        assert (np.asarray(agent.params) != np.asarray(agents[0].params)).any()
    assert set(together._programs) == programs


def test_overrides_and_a_config_are_the_same(agents):
    config = replace(preset("ppo", "cartpole"), SHORT)
    assert_same_agent(train(CARTPOLE, "ppo", "gar", [3, 5], config)[0], agents[0])
    slower = trained(learning_rate=1e-5)[0]
    assert slower.config.learning_rate == 1e-5
    assert (np.asarray(slower.params) != np.asarray(agents[0].params)).any()


def test_pitfall_12_gar_of_es_is_its_baseline():
    """The alias is trained, and named, as what it stands for."""
    arms = ("baseline", "gar", "reg", "gar+reg")
    agents = [train(PROBE, "es", arm, config=tiny_config("es"))[0] for arm in arms]
    assert [agent.technique for agent in agents] == ["baseline", "baseline", "reg", "reg"]
    assert_same_agent(agents[0], agents[1])
    assert_same_agent(agents[2], agents[3])
    assert (np.asarray(agents[0].params) != np.asarray(agents[2].params)).any()


@pytest.mark.slow
def test_dqn_learns_from_the_first_update_on():
    """5 iterations of 66 steps, the first updates after 132: at learning rate 0 nothing moves."""
    agent, still = (
        train(CARTPOLE, "dqn", total_steps=330, learning_starts=132, learning_rate=rate)[0]
        for rate in (1e-4, 0.0)
    )
    assert (agent.algorithm, agent.technique, agent.seed) == ("dqn", "baseline", 0)
    assert np.isfinite(agent.params).all()
    assert (np.asarray(agent.params) != np.asarray(still.params)).mean() > 0.5


@pytest.fixture
def spoiled() -> dict[str, Any]:
    """Metrics ``[L, 64]`` that the program of `calls` returns in place of its own."""
    return {}


@pytest.fixture
def calls(monkeypatch, spoiled) -> list[tuple[Any, ...]]:
    """What `train` asks of its program, which computes nothing: parameters are the seeds."""
    made = []

    def content(lanes, epoch):
        made.append(("content", int(epoch)))
        return int(epoch)

    def step(lanes, carry, content, start, stop) -> Any:
        made.extend((iteration, content) for iteration in range(start, stop))
        shape = len(lanes.seed), 64
        metrics = {"loss": 0.0, "updates": 1.0, "reward": 0.0} | spoiled.get("metrics", {})
        # Beyond the segment they are undefined.
        ahead = np.arange(64) >= stop - start
        return carry, {
            name: np.where(ahead, np.nan, np.broadcast_to(value, shape))
            for name, value in metrics.items()
        }

    def params(lanes, carry):
        made.append(("seeds", *lanes.seed.tolist()))
        return lanes.seed[:, None].astype(np.float32)

    def init(lanes, content) -> Any:
        return Carry((), (), np.zeros(len(lanes.seed), np.int32))  # pyright: ignore

    unused: Any = None
    program = Program(
        World(Refreshed.refresh_steps, content, unused, unused, unused, unused),
        LaneLearner(init, step, unused, unused, params, unused, unused),
        unused, unused,
        Capacity(lambda lanes: Memory(0, 100), num_devices=2, min_lanes=2, max_lanes=6, chunk=64),
    )  # fmt: skip
    monkeypatch.setattr(together, "_programs", {})
    monkeypatch.setattr(together, "make_program", lambda *args, **kwargs: program)
    return made


class Refreshed(ProbeTask):
    """Fresh content every 2 iterations of 24 steps."""

    refresh_steps = 48  # pyright: ignore[reportAssignmentType]


def test_training_content_is_refreshed(calls):
    """5 iterations: content of epochs 0, 1 and 2, before the iterations 0, 2 and 4."""
    train(Refreshed(MATCH), "ppo", config=tiny_config("ppo", total_steps=24 * 5))
    expected = [("content", 0), (0, 0), (1, 0), ("content", 1), (2, 1), (3, 1), ("content", 2)]
    assert calls[:-1] == [*expected, (4, 2)]


def test_seeds_are_padded_to_the_devices(calls):
    """Three seeds on two devices are four lanes, of which the last is no agent."""
    config = tiny_config("ppo", total_steps=24)
    agents = train(Refreshed(MATCH), "ppo", seeds=range(3, 6), config=config)
    assert [agent.seed for agent in agents] == [3, 4, 5]
    assert [float(agent.params[0]) for agent in agents] == [3, 4, 5]
    assert calls[-1] == ("seeds", 3, 4, 5, 5)
    train(Refreshed(MATCH), "ppo", seeds=[3], config=config)
    assert calls[-1] == ("seeds", 3, 3, 3, 3)


def test_seeds_take_turns(calls, monkeypatch):
    """Where devices, or their memory, do not take all of them; in parts of equal size."""
    config = tiny_config("ppo", total_steps=24)
    agents = train(Refreshed(MATCH), "ppo", seeds=range(9), config=config)
    assert [float(agent.params[0]) for agent in agents] == list(range(9))
    turns = [call for call in calls if call[0] == "seeds"]
    assert turns == [("seeds", 0, 1, 2, 3, 4, 4), ("seeds", 5, 6, 7, 8)]
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: 500)
    train(Refreshed(MATCH), "ppo", seeds=range(5), config=config)
    assert calls[-1] == ("seeds", 3, 4, 4, 4)
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: 399)
    with pytest.raises(ValueError, match="ppo on probe: 1 lane needs about 0.0 GB .* --devices"):
        train(Refreshed(MATCH), "ppo", config=config)


def test_one_seed_needs_no_second_device(monkeypatch):
    """Two lanes are the fewest on a device; a third seed needs another one."""
    made = []

    def make(*args, devices, **more):
        made.append(len(devices))
        raise LookupError

    monkeypatch.setattr(together, "_programs", {})
    monkeypatch.setattr(together, "make_program", make)
    for seeds in ([0], [0, 1], [0, 1, 2], range(9)):
        with pytest.raises(LookupError):
            trained(seeds=seeds)
    assert made == [1, 1, *[min(2, jax.local_device_count())] * 2]


def test_programs_are_let_go_before_a_search_has_too_many(agents, monkeypatch):
    """What was compiled is compiled again where it is needed."""
    forgotten = []
    monkeypatch.setattr(platform, "many_mappings", lambda: True)
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append(True))
    evaluate(agents[0], CARTPOLE, [0.0], episodes=2)
    assert forgotten


def test_names_numbers_of_seeds_and_progress_are_taken(capsys):
    agents = train("cartpole", "ppo", seeds=2, total_steps=3_000, progress=True)
    assert [agent.seed for agent in agents] == [0, 1]
    assert re.search(r"ppo on cartpole: 2 agents in \d+ s\n$", capsys.readouterr().out)
    by_name = evaluate(agents[0], "cartpole", [1.0, 0.25], episodes=20)
    expected = evaluate(agents[0], CARTPOLE, [0.0, 0.25, 1.0], episodes=20)
    np.testing.assert_array_equal(by_name, expected[[2, 1]])
    assert compute_grs(agents[0], "cartpole", [0, 1], episodes=20)["A_ood"] is None
    with pytest.raises(ValueError, match="seeds = 0 is not allowed; use a whole number, 1 or"):
        train("cartpole", "ppo", seeds=0)
    with pytest.raises(ValueError, match="environment 'pong' is unknown; use one of cartpole"):
        train("pong", "ppo")
    with pytest.raises(ValueError, match="shift_levels is empty"):
        evaluate(agents[0], "cartpole", [])
    figure = jaxgen.plot_learning_curves({"baseline": agents})
    assert len(figure.axes[0].lines) == 3
    for agent in agents:
        steps = agent.history["env_steps"]
        assert steps[-1] <= 3_000 and (np.diff(steps) > 0).all()
        assert {"reward", "loss"} <= agent.history.keys()
        assert all(len(values) == len(steps) for values in agent.history.values())


def test_figures_of_scores_show_every_arm_and_refuse_what_does_not_fit(tmp_path):
    scores = [compute_grs(untrained("ppo"), CARTPOLE, [0, 1], episodes=5) for _ in range(2)]
    axis = jaxgen.plot_degradation({"dr": scores, "own": scores[:1]}).axes[0]
    labels = [text.get_text() for text in axis.figure.legends[0].get_texts()]
    assert labels == ["random play", "ceiling", "dr (n=2)", "own (n=1)"]
    for nothing in ({}, {"dr": []}):
        with pytest.raises(ValueError, match="there is nothing to draw; give a list for the name"):
            jaxgen.plot_degradation(nothing)
    other = [scores[0] | {"levels": [0, 0.5]}]
    with pytest.raises(ValueError, match="levels differ"):
        jaxgen.plot_degradation({"dr": scores, "own": other})
    loaded = load_agent(save_agent(tmp_path / "agent", untrained("ppo")))
    with pytest.raises(ValueError, match="with seed 0 has no history; give agents as jaxgen.train"):
        jaxgen.plot_learning_curves({"dr": [loaded]})


@pytest.mark.slow
def test_a_study_runs_from_python_as_from_the_command_line(tmp_path, capsys):
    study = jaxgen.make_study(["cartpole"], ["ppo"], ["baseline"], [0, 1], total_steps=3_000,
                              evaluation=Evaluation(episodes=10))  # fmt: skip
    rows = jaxgen.run_study(study, tmp_path, plots=False)
    assert "ppo cartpole: 2 runs done" in capsys.readouterr().out
    assert {(row["seed"], row["level"], row["mode"]) for row in rows} == {
        (seed, level, mode) for seed in (0, 1) for level in SHIFT_LEVELS
        for mode in ("greedy", "sampled")
    }  # fmt: skip
    assert (tmp_path / "results.csv").exists() and (tmp_path / "best_models").exists()
    assert jaxgen.run_study(study, tmp_path, plots=False, quiet=True) == rows
    agent = load_agent(next(tmp_path.glob("runs/*/seed_0001")))
    twin = train("cartpole", "ppo", seeds=[1], total_steps=3_000)[0]
    np.testing.assert_array_equal(agent.params, twin.params)


LATE = """
import warnings, jax
jax.numpy.zeros(1) + 1
from jaxgen import train
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    for _ in range(2):
        try:
            train("pong", "ppo")
        except ValueError:
            pass
print([str(w.message)[:45] for w in found])
"""


def test_who_started_jax_before_is_warned_once():
    variables = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    found = subprocess.run(
        [sys.executable, "-c", LATE], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == "['JAX has started before jaxgen could set it up']\n", found.stderr
    early = LATE.replace("jax.numpy.zeros(1) + 1", "")
    found = subprocess.run(
        [sys.executable, "-c", early], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == "[]\n", found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("algorithm, num_envs", [("ppo", 2), ("dqn", 6), ("es", 12)])
def test_arms_of_one_level_train_on_any_number_of_variations(algorithm, num_envs):
    """One: the algorithm as others know it."""
    config = tiny_config(algorithm, total_steps=2_000, num_variations=1, num_envs=num_envs)
    (agent,) = train(Refreshed(MATCH), algorithm, config=config)
    assert agent.fault is None and np.isfinite(agent.params).all()
    assert evaluate(agent, Refreshed(MATCH), [0.0], episodes=50).mean() > 0.9


@pytest.mark.parametrize(
    "metrics, fault",
    [
        ({"loss": [np.nan, 0.0, 0.0, 0.0]}, "its loss is not finite in iteration 0"),
        ({"reward": [0.0, 0.0, 0.0, 0.0], "loss": [np.nan] * 4, "updates": 0.0}, None),
        ({"reward": [np.inf, 0.0, 0.0, 0.0]}, "its training return is infinite in iteration 0"),
        ({"reward": [np.nan, 0.0, 0.0, 0.0]}, None),
        # A lane that rests computes what it does not keep.
        ({"loss": [np.nan, 0.0, 0.0, 0.0], "active": 0.0}, None),
    ],
)
def test_a_training_that_diverged_says_so(calls, spoiled, metrics, fault, tmp_path):
    """Of the first of three seeds; parameters are finite, as those of a population are."""
    spoiled["metrics"] = {name: np.reshape(x, (-1, 1)) for name, x in metrics.items()}
    config = tiny_config("ppo", total_steps=24 * 2)
    task, expected = Refreshed(MATCH), [fault, None, None]
    if fault is None:
        agents = train(task, "ppo", seeds=[7, 8, 9], config=config)
    else:
        with pytest.warns(UserWarning, match=f"ppo on probe with seed 7 diverged: {fault}"):
            agents = train(task, "ppo", seeds=[7, 8, 9], config=config)
    assert [agent.fault for agent in agents] == expected
    save_agent(tmp_path / "agent", agents[0])
    assert load_agent(tmp_path / "agent").fault == fault
    if fault:
        with pytest.raises(ValueError, match=f"ppo with seed 7 diverged, .*: {fault}; lower the"):
            evaluate(agents[0], task)


@pytest.mark.parametrize(
    "seeds",
    [np.arange(3), jnp.arange(3), [np.int64(0), 1.0, True + 1], {0, 1, 2}, iter(range(3)),
     np.arange(3, dtype=np.float64), range(3)],
)  # fmt: skip
def test_seeds_are_whole_numbers_of_any_type(calls, seeds):
    agents = train(Refreshed(MATCH), "ppo", seeds=seeds, config=tiny_config("ppo", total_steps=24))
    assert [agent.seed for agent in agents] == [0, 1, 2]
    assert all(type(agent.seed) is int for agent in agents)


def test_a_configuration_is_of_numbers_of_any_type(calls):
    """That of the caller too, which nothing has converted yet."""
    config: Any = tiny_config("ppo")
    numbers = {"hidden": np.array([16]), "num_envs": np.int64(2), "gamma": jnp.float32(0.5)}
    given = dataclasses.replace(config, **numbers)
    (agent,) = train(Refreshed(MATCH), "ppo", config=given, total_steps=np.int64(24))
    expected = replace(config, {"total_steps": 24, "gamma": 0.5})
    assert agent.config == expected and hash(agent.config) == hash(expected)


def test_a_jaxlib_that_computes_wrong_numbers_is_refused(agents, monkeypatch):
    monkeypatch.setattr(platform, "known_bad_allowed", False)
    monkeypatch.setattr(platform.importlib.metadata, "version", lambda name: "0.10.2")
    for refused in (trained, lambda: evaluate(agents[0], CARTPOLE)):
        with pytest.raises(ValueError, match="jaxlib 0.10.2 deadlocks"):
            refused()
    monkeypatch.setattr(platform, "known_bad_allowed", True)
    assert evaluate(agents[0], CARTPOLE, episodes=2).shape == (5, 2)


# Evaluation and scores.


def test_evaluation_is_of_fixed_episodes(agents):
    returns = evaluate(agents[0], CARTPOLE, episodes=200)
    assert (returns.shape, returns.dtype) == ((5, 200), np.float32)
    assert returns.min() >= 8 and returns.max() <= 500
    again = evaluate(agents[0], CARTPOLE, SHIFT_LEVELS, episodes=200)
    np.testing.assert_array_equal(again, returns)
    others = evaluate(agents[0], CARTPOLE, episodes=200, study_seed=1)
    sampled = evaluate(agents[0], CARTPOLE, mode="sampled", episodes=200)
    assert (others != returns).any() and (sampled != returns).any()


def test_pitfall_8_an_episode_does_not_depend_on_the_levels_beside_it(agents):
    """A network over 2 x 200 observations at once instead of 5 x 200: the same returns."""
    returns = evaluate(agents[0], CARTPOLE, episodes=200)
    ends = evaluate(agents[0], CARTPOLE, [0, 1], episodes=200)
    np.testing.assert_array_equal(ends, returns[[0, 4]])


def test_pitfall_8_evaluation_changes_nothing(agents):
    before = np.array(agents[0].params)
    evaluate(agents[0], CARTPOLE, episodes=200)
    np.testing.assert_array_equal(agents[0].params, before)


def test_evaluation_is_what_acting_step_by_step_earns(agents):
    """Three episodes through `Agent.act`, one environment and one step at a time."""
    levels, agent = (0.0, 1.0), agents[0]
    returns = evaluate(agent, CARTPOLE, levels, episodes=200)
    suite = make_episodes(CARTPOLE, evaluation_key(0), levels, 200)
    advance = jax.jit(CARTPOLE.environment.advance)
    # The shortest ones: one step of chaos is amplified by each that follows.
    for level, episode in [(0, returns[0].argmin()), (1, returns[1].argmin()), (1, 3)]:
        params = jax.tree.map(lambda leaf, level=level: leaf[level], suite.params)
        obs, state = CARTPOLE.environment.reset_from(suite.words[level, episode], params)
        total, done = 0.0, False
        while not done:
            obs, state, reward, terminated, truncated = advance(state, agent.act(obs), params)
            total, done = total + float(reward), bool(terminated | truncated)
        assert total == returns[level, episode]


def test_any_function_is_evaluated_as_an_agent_is(agents):
    """The agent's own greedy choices, as numpy from outside: the same episodes, and the same
    returns but for what rounding makes of some; on the host bit by bit."""
    choose = lambda obs: np.asarray(agents[0].act(obs))  # noqa: E731
    ours = evaluate(choose, CARTPOLE, (0.0, 1.0), episodes=20)
    theirs = evaluate(agents[0], CARTPOLE, (0.0, 1.0), episodes=20)
    assert ours.shape == (2, 20) and ours.dtype == np.float32
    assert (ours == theirs).mean() > 0.8
    # Always to the right: the pole falls within 12 steps.
    right = evaluate(lambda obs: np.ones(len(obs), int), CARTPOLE, (0.0,), episodes=20)
    assert (right < 13).all() and (right > 6).all()


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda obs: 1, r"actions of shape \[\] on cartpole; it must give shape \[10\]"),
        (lambda obs: np.full(len(obs), np.nan), "actions that are not finite on cartpole"),
        (lambda obs: np.full(len(obs), 2), "action 2 on cartpole; it must give 0 to 1"),
        (lambda obs: np.full(len(obs), 0.5), "action 0.5 on cartpole"),
    ],
)
def test_a_function_that_gives_no_actions_is_refused(choose, message):
    with pytest.raises(ValueError, match=message):
        evaluate(choose, CARTPOLE, (0.0,), episodes=10)


def test_training_goes_on_from_an_agent(agents):
    """A learning rate of 0 keeps it, bit by bit; with another one it moves, each seed otherwise."""
    still = train(CARTPOLE, "ppo", "gar", (7,), start=agents[0], learning_rate=0.0)
    np.testing.assert_array_equal(still[0].params, agents[0].params)
    moved = train(CARTPOLE, "ppo", "gar", (7, 8), start=agents[0])
    assert moved[0].config == agents[0].config
    apart = [np.linalg.norm(each.params - agents[0].params) for each in moved]
    new = np.linalg.norm(train(CARTPOLE, "ppo", "gar", (7,), **SHORT)[0].params - agents[0].params)
    assert 0 < max(apart) < new / 2 and (moved[0].params != moved[1].params).any()


@pytest.mark.parametrize("algorithm", ["dqn", "sac", "td3", "grpo", "es"])
def test_every_algorithm_goes_on_from_an_agent(algorithm):
    """Targets, references and populations begin with it too, so that with no step nothing moves."""
    discrete = algorithm in ("dqn", "grpo", "es")
    task = CARTPOLE if discrete else make_task("pendulum")
    config = tiny_config(algorithm, total_steps=1536)
    if discrete:
        config = replace(config, {"hidden": [8]})
    kinds = {"sac": {"alpha_learning_rate": 0.0}} if algorithm == "sac" else {}
    first = train(task, algorithm, seeds=(1,), config=config)[0]
    kinds = {name: value for name, value in kinds.items() if hasattr(config, name)}
    still = train(task, algorithm, seeds=(2,), start=first, learning_rate=0.0, **kinds)[0]
    np.testing.assert_array_equal(still.params, first.params)


def test_an_agent_of_something_else_is_no_start(agents):
    with pytest.raises(ValueError, match="an agent of ppo cannot be trained on by dqn"):
        train(CARTPOLE, "dqn", start=agents[0], config=preset("dqn", "cartpole"))
    with pytest.raises(ValueError, match="an agent of cartpole cannot act in minigrid"):
        train(GRID, "ppo", start=agents[0], config=preset("ppo", "minigrid"))
    wide = replace(agents[0].config, {"hidden": [16]})
    with pytest.raises(ValueError, match="cannot be trained on as one of"):
        train(CARTPOLE, "ppo", start=agents[0], config=wide)


def test_an_agent_acts_in_gymnasium(agents):
    """What it was trained on is Gymnasium's CartPole: as good there as evaluated here."""
    environment = gymnasium.make("CartPole-v1")
    returns = []
    for seed in range(10):
        obs, _ = environment.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = environment.step(int(agents[0].act(obs)))
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    ours = evaluate(agents[0], CARTPOLE, episodes=200)[0]
    assert abs(np.mean(returns) - ours.mean()) < 5 * ours.std() / 10**0.5


def test_scores_come_with_grs(agents):
    """The call of the specification; all scores are those of the returns beside them."""
    scores = compute_grs(agents[0], CARTPOLE, shift_levels=[0, 0.25, 0.5, 0.75, 1], episodes=200)
    assert scores["grs"] > 0
    assert set(scores) == {*Scores._fields, "levels", "returns", "floor", "ceiling"}
    assert scores["levels"] == list(SHIFT_LEVELS)
    returns = evaluate(agents[0], CARTPOLE, episodes=200).astype(np.float64)
    np.testing.assert_array_equal(scores["returns"], returns.mean(1))
    references = api.make_references(CARTPOLE, Evaluation(episodes=200), evaluation_key(0))
    np.testing.assert_array_equal(scores["floor"], references.floor)
    assert scores["ceiling"] == [500.0] * 5
    error = returns[0].std(ddof=1) / 200**0.5
    expected = score_curve(
        SHIFT_LEVELS, returns.mean(1), references.floor, references.ceiling, error,
        references.floor_standard_error[0],
    ).to_dict()
    assert {name: scores[name] for name in expected} == expected
    json.dumps(scores, allow_nan=False)


def test_scores_of_each_mode_are_its_own(agents):
    """Pitfall 16."""
    greedy, sampled = (
        compute_grs(agents[0], CARTPOLE, mode=mode, episodes=200) for mode in ("greedy", "sampled")
    )
    assert greedy["returns"] != sampled["returns"]
    assert greedy["floor"] == sampled["floor"]
    ours = evaluate(agents[0], CARTPOLE, mode="sampled", episodes=200).mean(1, dtype=np.float64)
    np.testing.assert_allclose(sampled["returns"], ours)


@pytest.mark.parametrize("deviation, valid", [(100.0, True), (500.0, False)])
def test_validity_is_by_the_standard_error_at_level_zero(deviation, valid, monkeypatch):
    """60 above the floor of 22 in 50 episodes: 4.2 standard errors of 100 / sqrt(50) = 14.1, or
    .85 of 70.7. At the other levels nothing varies."""
    unit = np.tile([-1.0, 1.0], 25) * np.sqrt(49 / 50)
    returns = np.full((5, 50), 82, np.float32)
    returns[0] += deviation * unit
    unused: Any = None
    references = References(unused, np.full(5, 22.0), np.zeros(5), np.full(5, 500.0), None)
    monkeypatch.setattr(api, "make_references", lambda *args: references)
    monkeypatch.setattr(api, "returns_of", lambda *args: returns)
    assert compute_grs(untrained("ppo"), CARTPOLE, episodes=50)["valid"] is valid


# Acting.


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
@pytest.mark.parametrize("algorithm, task", [("ppo", CARTPOLE), ("dqn", GRID), ("es", GRID)])
def test_actions_have_the_leading_shape(algorithm, task, shape):
    agent = untrained(algorithm, task)
    low, high = (0, 5) if task is GRID else (-1, 1)
    draws = np.random.default_rng(0).uniform(low, high, (*shape, *task.spec.obs_shape))
    obs = draws.astype(task.spec.obs_dtype)
    preferences = agent.preferences(obs)
    assert preferences.shape == (*shape, task.spec.actions.num)
    for key in (None, jax.random.key(0)):
        action = agent.act(obs, key)
        assert (action.shape, action.dtype) == (shape, jnp.int32)
        assert ((action >= 0) & (action < task.spec.actions.num)).all()
    np.testing.assert_array_equal(agent.act(obs), np.asarray(preferences).argmax(-1))


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "es"])
def test_sampled_actions_have_their_probabilities(algorithm):
    """PPO and ES draw from the softmax, DQN takes the other of two actions with .025."""
    agent = untrained(algorithm)
    obs = jnp.tile(jnp.array([0.5, 0.2, 0.1, -0.4]), (20_000, 1))
    preferences = agent.preferences(obs[0])
    expected = jax.nn.softmax(preferences)[1]
    if algorithm == "dqn":
        expected = 0.975 if preferences[1] > preferences[0] else 0.025
    share = agent.act(obs, jax.random.key(1)).mean()
    # 5 standard errors, at most .5 / sqrt(20 000) each.
    np.testing.assert_allclose(share, expected, atol=0.018)
    again = agent.act(obs, jax.random.key(1))
    np.testing.assert_array_equal(again, agent.act(obs, jax.random.key(1)))
    assert (again != agent.act(obs, jax.random.key(2))).any()


def test_an_agent_acts_inside_of_compiled_functions(agents):
    obs = jax.random.normal(jax.random.key(0), (6, 4))
    expected = agents[0].act(obs)
    np.testing.assert_array_equal(jax.jit(agents[0].act)(obs), expected)
    np.testing.assert_array_equal(jax.vmap(agents[0].act)(obs), expected)
    fresh = untrained("ppo")
    fresh = fresh._replace(config=replace(fresh.config, {"entropy": 0.5}))
    with jax.checking_leaks():
        traced = jax.jit(fresh.act)(obs)
    np.testing.assert_array_equal(fresh.act(obs), traced)


def test_lists_are_observations_too(agents):
    np.testing.assert_array_equal(
        agents[0].act([[0.0, 0.0, 0.1, 0.0]]), agents[0].act(np.array([[0.0, 0.0, 0.1, 0.0]]))
    )


# Saving.


@pytest.mark.parametrize(
    "algorithm, task", [("ppo", CARTPOLE), ("dqn-onehot", GRID), ("es-matched", GRID)]
)
def test_a_saved_agent_comes_back(tmp_path, algorithm, task):
    """Pitfall 23: into folders that do not exist yet; everything but the path is in there."""
    agent = untrained(algorithm, task, "dr")._replace(seed=11)
    save_agent(tmp_path / "deep" / "down" / "agent", agent)
    loaded = load_agent(str(tmp_path / "deep" / "down" / "agent"))
    assert_same_agent(loaded, agent)
    obs = np.zeros((3, *task.spec.obs_shape), task.spec.obs_dtype)
    np.testing.assert_array_equal(loaded.preferences(obs), agent.preferences(obs))


def test_a_trained_agent_comes_back_and_is_evaluated_alike(tmp_path, agents):
    save_agent(tmp_path / "agent", agents[1])
    loaded = load_agent(tmp_path / "agent")
    assert_same_agent(loaded, agents[1])
    np.testing.assert_array_equal(
        evaluate(loaded, CARTPOLE, episodes=200), evaluate(agents[1], CARTPOLE, episodes=200)
    )


def test_saving_replaces(tmp_path):
    for seed in (1, 2):
        save_agent(tmp_path / "agent", untrained("ppo")._replace(seed=seed))
    assert load_agent(tmp_path / "agent").seed == 2


def test_the_suffix_may_be_left_out_and_a_folder_of_a_seed_holds_one(tmp_path):
    agent = untrained("ppo")
    path = save_agent(tmp_path / "seed_0000" / "agent", agent)
    assert path == tmp_path / "seed_0000" / "agent.npz"
    for name in ("seed_0000", "seed_0000/agent", "seed_0000/agent.npz"):
        assert_same_agent(load_agent(tmp_path / name), agent)


def test_an_agent_needs_numpy_alone_to_be_read(tmp_path):
    agent = untrained("ppo")
    with np.load(save_agent(tmp_path / "agent.npz", agent), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["params"], agent.params)
        assert json.loads(arrays["meta"].tobytes())["meta"]["kind"] == "jaxgen agent"


def test_what_is_no_agent_is_refused(tmp_path):
    checkpoint.save(tmp_path / "other", {"params": np.zeros(3)}, {"kind": "something"})
    (tmp_path / "kind.npz").write_bytes(archives.pack_described({}, {"kind": "something"}))
    for name in ("other", "kind.npz", "kind"):
        with pytest.raises(ValueError, match=f"{name}.* holds no agent; use a file of best_models"):
            load_agent(tmp_path / name)
    with pytest.raises(DamagedFile, match="nowhere: there is no agent"):
        load_agent(tmp_path / "nowhere")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(DamagedFile, match="it is no npz file"):
        load_agent(tmp_path / "array.npy")


@pytest.mark.parametrize("other", ["folder", "text", "npz", "kind"])
def test_what_is_no_agent_is_not_overwritten(tmp_path, other):
    path = tmp_path / "agent.npz"
    if other == "folder":
        path.mkdir()
    elif other == "text":
        path.write_text("PK, my notes")
    elif other == "npz":
        np.savez(path, params=np.zeros(3))
    else:
        path.write_bytes(archives.pack_described({}, {"kind": "something"}))
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(ValueError, match="agent.npz .* stays as it is; name a file that is new"):
        save_agent(path, untrained("ppo"))
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_a_damaged_agent_is_refused_and_may_be_replaced(tmp_path):
    path = save_agent(tmp_path / "agent", untrained("ppo"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=path.name):
        load_agent(path)
    save_agent(path, untrained("ppo"))
    load_agent(path)


# What is refused.

REFUSED_TRAININGS = [
    ({"algorithm": "a3c"}, "unknown algorithm 'a3c'; allowed: ppo, dqn, es"),
    ({"technique": "garr"}, "unknown technique 'garr'"),
    ({"technique": "gar+dr"}, "both gar and dr"),
    ({"task": "pong"}, "environment 'pong' is unknown; use one of cartpole"),
    ({"seeds": []}, "no seeds given"),
    ({"seeds": np.arange(0)}, "no seeds given"),
    ({"seeds": 0}, "seeds = 0 is not allowed; use a whole number, 1 or larger"),
    ({"seeds": np.array(-3)}, "seeds = -3 is not allowed; use a whole number, 1 or larger"),
    ({"seeds": [True]}, "seed True is not allowed"),
    ({"seeds": ["1"]}, "seed '1' is not allowed"),
    ({"seeds": np.zeros((1, 1))}, r"seed \[0.0\] is not allowed"),
    ({"seeds": np.array([1, 1])}, "seed 1 is given twice"),
    ({"seeds": [-1]}, "seed -1 is not allowed; use whole numbers from 0"),
    ({"seeds": [0.5]}, "seed 0.5 is not allowed"),
    ({"seeds": [2**31]}, "seed 2147483648 is not allowed"),
    ({"seeds": [1, 2, 1]}, "seed 1 is given twice"),
    ({"total_steps": 100}, "total_steps = 100 is not allowed; use at least one iteration of 384"),
    ({"lr": 1e-3}, "unknown configuration key 'lr'; allowed: total_steps"),
    ({"learning_rate": float("nan")}, "learning_rate = nan is not allowed"),
    ({"config": preset("es", "cartpole")}, "a configuration of es is not one of ppo; start from"),
    ({"config": {"gamma": 0.9}}, "config of type dict is not allowed; start from config=jaxgen."),
    ({"gamma": 1.5}, "gamma = 1.5 is not allowed; use a share in"),
    ({"num_frames": 2}, "num_frames = 2 is not allowed on cartpole; use 1"),
    ({"network": "nature"}, "an encoder of images cannot read cartpole"),
    ({"algorithm": "dqn-onehot"}, "encoding = 'one_hot' is not allowed on cartpole; use raw or"),
    ({"algorithm": "dqn", "total_steps": 990}, "learning_starts = 1000 is not allowed; use 0 to"),
    (
        {"algorithm": "dqn+", "config": preset("dqn", "cartpole")},
        r"of dqn without gamma = 0.95, n_step = 3 is no dqn\+; start from config=jaxgen.preset",
    ),
]


@pytest.mark.parametrize("changes, message", REFUSED_TRAININGS)
def test_bad_trainings_are_refused_before_any_compute(changes, message, monkeypatch):
    monkeypatch.setattr(together, "_program", None)
    with pytest.raises(ValueError, match=message):
        train(**({"task": CARTPOLE, "algorithm": "ppo"} | changes))


def test_a_preset_names_its_budget_by_the_way(calls):
    """``es-matched`` is another budget alone, and that may be any."""
    config = tiny_config("es")
    (agent,) = train(Refreshed(MATCH), "es-matched", config=config)
    assert (agent.algorithm, agent.config) == ("es-matched", config)


def test_an_environment_without_a_configuration_needs_one():
    """The message shows an argument that will do: there are no names to choose from."""
    with pytest.raises(ValueError, match="ppo has no configuration for environment 'probe'") as e:
        train(PROBE, "ppo")
    assert str(e.value).endswith("like it: config=jaxgen.preset('ppo', 'cartpole')")


@pytest.mark.parametrize(
    "algorithm, observation, example",
    [
        ("ppo-published", Image(64, 64, 3), "preset('ppo-published', 'starpilot')"),
        ("ppo", Image(64, 64, 3), "preset('ppo', 'starpilot'), num_frames=1"),
        ("ppo", Image(7, 7, 3), "preset('ppo', 'cartpole')"),
        ("dqn-onehot", Codes((7, 7), 5), "preset('dqn-onehot', 'cartpole')"),
        ("es", Numbers((0.0,), (1.0,)), "preset('es', 'cartpole'), num_steps=40"),
        ("es", Image(40, 40, 3), "preset('es', 'starpilot'), num_frames=1, num_steps=40"),
    ],
)
def test_the_example_of_a_configuration_will_do(algorithm, observation, example, monkeypatch):
    """It is taken as it stands, whatever the environment shows."""
    monkeypatch.setattr(api, "check_task", lambda task: None)
    task: Any = ProbeTask(*PROBES.values())
    task.spec = EnvSpec("mine", observation, Discrete(15), 40)
    with pytest.raises(ValueError) as refused:
        train(task, algorithm)
    assert str(refused.value).endswith(f"one like it: config=jaxgen.{example}")
    arguments = eval(f"dict(config=jaxgen.{example})", {"jaxgen": jaxgen, "dict": dict})
    config = arguments.pop("config")
    api._own_config(algorithm, task, config, arguments)
    other = preset("es" if algorithm != "es" else "ppo", "cartpole")
    with pytest.raises(ValueError, match=re.escape(f"config=jaxgen.{example}")):
        train(task, algorithm, config=other)


def test_an_encoder_reads_no_smaller_images(monkeypatch):
    monkeypatch.setattr(api, "check_task", lambda task: None)
    task: Any = ProbeTask(*PROBES.values())
    task.spec = EnvSpec("codes", Image(7, 7, 3), Discrete(15), 40)
    config = replace(preset("ppo", "starpilot"), {"num_frames": 1})
    message = "network = 'nature' cannot read codes, whose images are 7 x 7: it needs sides of 36"
    with pytest.raises(ValueError, match=message):
        train(task, "ppo", config=config)


PICTURES = Agent(
    "ppo", "dr", preset("ppo", "starpilot"),
    EnvSpec("pictures", Image(64, 64, 12), Discrete(15), 1000), np.zeros(1, np.float32),
)  # fmt: skip
NAN = untrained("ppo")._replace(params=np.full(9, np.nan, np.float32), seed=4)

REFUSED_EVALUATIONS = [
    ({"shift_levels": [0, 1.5]}, r"variation level 1.5 is outside \[0, 1\]"),
    ({"shift_levels": [-0.1, 1]}, r"variation level -0.1 is outside \[0, 1\]"),
    ({"shift_levels": [0, float("nan"), 1]}, r"variation level nan is outside \[0, 1\]"),
    ({"shift_levels": []}, "must increase and begin with 0|shift_levels is empty; name a level"),
    ({"episodes": 1}, "episodes = 1 is not allowed; use (2 or more|a whole number, 2 or larger)"),
    ({"episodes": 2.5}, "episodes = 2.5 is not allowed; use a whole number"),
    ({"shift_levels": 0.5}, r"shift_levels = 0.5 is not allowed; give a list, as in \[0.5\]"),
    ({"shift_levels": [0, "1"]}, "shift_levels with '1' is not allowed; use a list of numbers"),
    ({"study_seed": -1}, "study_seed -1 is not allowed; use whole numbers from 0 to 2147483647"),
    ({"study_seed": 2**32}, "study_seed 4294967296 is not allowed"),
    ({"agent": [untrained("ppo")]}, "agent of type list is not allowed; train returns a list"),
    ({"task": "pong"}, "environment 'pong' is unknown; use one of cartpole"),
    ({"mode": "best"}, "unknown mode 'best'; allowed: greedy, sampled"),
    (
        {"task": GRID},
        r"an agent of cartpole cannot act in minigrid; make the task that it was trained on: name "
        r"is minigrid here, cartpole there; observation is Codes\(.*\) here, Numbers\(.*\) there",
    ),
    ({"agent": PICTURES}, "an agent of pictures cannot act in cartpole; make the"),
    ({"agent": NAN}, "ppo with seed 4 diverged, so that .*: its parameters are not finite; lower"),
]


@pytest.mark.parametrize("function", [evaluate, compute_grs])
@pytest.mark.parametrize("changes, message", REFUSED_EVALUATIONS)
def test_bad_evaluations_are_refused_before_any_compute(function, changes, message, monkeypatch):
    monkeypatch.setattr(api, "make_suite", None)
    monkeypatch.setattr(api, "make_references", None)
    with pytest.raises(ValueError, match=message):
        function(**({"agent": untrained("ppo"), "task": CARTPOLE} | changes))


@pytest.mark.parametrize("levels", [[0, 1, 0.5], [0, 0.5, 0.5, 1], [0.25, 1]])
def test_scores_need_levels_in_order(levels, monkeypatch):
    monkeypatch.setattr(api, "make_references", None)
    with pytest.raises(ValueError, match="must increase and begin with 0"):
        compute_grs(untrained("ppo"), CARTPOLE, levels)


def test_scores_need_both_ends_before_any_compute(monkeypatch):
    monkeypatch.setattr(api, "make_references", None)
    with pytest.raises(ValueError, match="levels must increase strictly from 0 to 1"):
        compute_grs(untrained("ppo"), CARTPOLE, [0, 0.5])


@pytest.mark.parametrize(
    "algorithm, task, obs, message",
    [
        ("ppo", CARTPOLE, np.zeros(5), r"shape \(5,\) .* trained on cartpole: pass \[..., 4\]"),
        ("ppo", CARTPOLE, 0.0, r"an observation of shape \(\) is not allowed"),
        ("dqn", GRID, np.zeros((2, 7, 7)), r"shape \(2, 7, 7\) .* minigrid: pass \[..., 49\]"),
    ],
)
def test_observations_of_another_shape_are_refused(algorithm, task, obs, message):
    with pytest.raises(ValueError, match=message):
        untrained(algorithm, task).act(obs)


def test_pitfall_15_a_diverged_training_has_no_returns(agents):
    """A learning rate beyond float32: the agent is there, and its evaluation says what it is."""
    with pytest.warns(UserWarning, match="ppo on cartpole with seed . diverged: its parameters"):
        diverged = trained(learning_rate=1e38)[0]
    assert not np.isfinite(diverged.params).all()
    with pytest.raises(ValueError, match="diverged, so that it has no returns"):
        evaluate(diverged, CARTPOLE, episodes=200)


def test_names_of_the_package():
    assert set(jaxgen.__all__) >= {"train", "evaluate", "compute_grs", "save_agent", "load_agent"}
    assert dir(jaxgen) == sorted(jaxgen.__all__)
    for name in jaxgen.__all__:
        assert getattr(jaxgen, name) is not None
    with pytest.raises(AttributeError, match="module 'jaxgen' has no attribute 'nothing'"):
        jaxgen.nothing  # noqa: B018


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path):
    """The first Python block, word for word, in a process of its own and from another folder."""
    readme = ROOT / "README.md"
    assert readme.is_file(), "README.md is missing: it is where users find the Python API"
    block = re.search(r"^```python\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE)
    assert block, "README.md has no ```python block: it must show the Python API"
    code = block.group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    words = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("ppo on")]
    assert words == ["baseline", "dr"]
    assert (tmp_path / "shift.png").stat().st_size > 10_000

"""A study on HalfCheetah: its names, what varies, and a run from the command line to its files."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from envs_jax.mujoco import engine as mujoco_engine
from envs_jax.mujoco import robots as mujoco_robots
from experiments import matrix
from experiments.command_line import parse, study_of
from jaxgen.evaluation.saving import load_agent
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card
from jaxgen.study.product import Study, make_study
from jaxgen.system import faults
from small_runs import ROOT, refused, results_of, run

WORDS = ["--algo", "es", "--technique", "baseline", "--seeds", "0"]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What is registered here is gone afterwards, and mujoco is taken to be there."""
    before = dict(ENVIRONMENT_CARDS)
    with monkeypatch.context() as patch:
        patch.setattr(mujoco_engine, "installed", lambda: mujoco_engine.VERSION)
        yield
    ENVIRONMENT_CARDS.clear()
    ENVIRONMENT_CARDS.update(before)


def test_gymnasiums_name_is_another_name_of_it():
    assert environment_card("HalfCheetah-v5") is environment_card("halfcheetah")
    (group,) = make_study(["HalfCheetah-v5"], ["es"], ["baseline"], [0]).groups
    assert group.environment == "halfcheetah"
    with pytest.raises(ValueError, match="environment 'halfcheetah' is given twice"):
        make_study(["halfcheetah", "HalfCheetah-v5"], ["es"], ["baseline"], [0])


def options_of(*words: str) -> dict[str, dict]:
    """Task options by environment of what a command line asks for."""
    groups = study_of(parse([*WORDS, *words])).groups
    return {group.environment: group.specs[0].task_options for group in groups}


def test_one_factor_can_be_named_on_the_command_line():
    assert options_of("--env", "HalfCheetah-v5")["halfcheetah"]["vary"] == "all"
    for factor in ("mass", "friction", "gear", "all"):
        options = options_of("--env", "halfcheetah", "--vary", factor)
        assert options["halfcheetah"]["vary"] == factor
    # A command says all that varies: that of an earlier one is forgotten.
    options_of("--env", "halfcheetah", "--vary", "mass")
    assert options_of("--env", "halfcheetah")["halfcheetah"]["vary"] == "all"


def test_beside_gymnax_each_takes_its_own_words():
    options = options_of(
        "--env", "gymnax:Pendulum-v1", "halfcheetah", "--vary", "l=1:1.5", "gear"
    )
    assert options["gymnax-Pendulum-v1"]["vary"] == {"l": [1.0, 1.5]}
    assert options["halfcheetah"]["vary"] == "gear"


def test_options_of_the_task_can_be_named_on_the_command_line(capsys):
    """Each is a setting of its own, and none is left for the next command."""
    words = ["--env", "halfcheetah", "--task", "reset_noise_scale=0.15", "frame_skip=4"]
    options = options_of(*words)["halfcheetah"]
    assert (options["reset_noise_scale"], options["frame_skip"]) == (0.15, 4)
    assert options["eval_reset_noise_scale"] is None and options["vary"] == "all"
    usual = options_of("--env", "halfcheetah")["halfcheetah"]
    assert (usual["reset_noise_scale"], usual["frame_skip"]) == (0.1, 5)
    for given, message in (
        ("--env halfcheetah --task noise=1", "--task 'noise=1' is not allowed; use NAME=VALUE, w"),
        ("--env halfcheetah --task frame_skip=0", "halfcheetah: frame_skip = 0 is not allowed; u"),
        ("--env halfcheetah --task frame_skip=x", "halfcheetah: frame_skip = 'x' is not allowed; "),
        ("--env pendulum --task frame_skip=4", "--task frame_skip=4 needs an environment of Gymn"),
        ("--task frame_skip=4", "--vary and --task say something of an environment: name it by"),
    ):
        refused(matrix.main, "matrix.py", [*WORDS, *given.split(), "--list"], capsys, message)


@pytest.mark.parametrize("word", [["gravity"], ["mass", "gear"], ["mass=1:2"]])
def test_what_cannot_vary_is_refused_in_one_line(capsys, word):
    words = [*WORDS, "--env", "halfcheetah", "--vary", *word, "--list"]
    message = f"--vary {' '.join(word)} is not allowed for halfcheetah; use one of all, mass, fric"
    refused(matrix.main, "matrix.py", words, capsys, message)


@pytest.mark.parametrize(("words", "message"), [
    (["--env", "halfcheetah", "--set", "num_frames=4"], "num_frames = 4 is not allowed: observat"),
    (["--env", "pendulum", "--set", "num_frames=4"], "num_frames = 4 is not allowed on pendulum"),
    (["--env", "cartpole", "--set", "policy=beta"], "policy = 'beta' is not allowed where actions"),
])  # fmt: skip
def test_settings_that_an_environment_cannot_take_are_one_line(capsys, tmp_path, words, message):
    words = ["--algo", "ppo", *WORDS[2:], *words, "--quick", "--out", str(tmp_path / "out")]
    assert matrix.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"matrix.py: {message}")


def test_without_mujoco_a_study_is_refused_before_it_begins(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(mujoco_engine, "installed", lambda: None)
    words = [*WORDS, "--env", "halfcheetah", "--out", str(tmp_path / "out")]
    message = (
        "environment 'halfcheetah' cannot be played: mujoco is not installed; install it: pip "
        'install "mujoco==3.17.0"'
    )
    refused(matrix.main, "matrix.py", words, capsys, message)
    assert not (tmp_path / "out").exists()
    assert matrix.main([*words, "--list"]) == 0


def test_a_run_from_the_command_line_to_its_files(monkeypatch, tmp_path: Path):
    """Episodes of 40 steps; the agent knows what its world was."""
    pytest.importorskip("mujoco")
    robot = mujoco_robots.ROBOTS["halfcheetah"]._replace(max_episode_steps=40)
    monkeypatch.setitem(mujoco_robots.ROBOTS, "halfcheetah", robot)
    study = study_of(parse([*WORDS, "--env", "HalfCheetah-v5", "--vary", "mass", "--quick"]))
    run(study, tmp_path)
    folder = next(tmp_path.glob("runs/es_halfcheetah_baseline-*/seed_0000"))
    agent = load_agent(folder)
    assert agent.task_options and agent.task_options["vary"] == "mass"
    with np.load(folder / "history.npz") as history:
        seeds = history["episodes_evaluation_level_seed"].reshape(5, -1)
        assert (seeds == seeds[0]).all()
        assert (history["episodes_length"] == 40).all() and len(history["episodes_length"])


@pytest.mark.slow
def test_a_lane_that_diverged_leaves_the_others_alone(monkeypatch, tmp_path: Path):
    """Its actions are no numbers, in training and where its learning curve is evaluated."""
    pytest.importorskip("mujoco")
    robot = mujoco_robots.ROBOTS["halfcheetah"]._replace(max_episode_steps=20)
    monkeypatch.setitem(mujoco_robots.ROBOTS, "halfcheetah", robot)

    def study(*techniques: str) -> Study:
        words = ["--algo", "sac", "--seeds", "0", "--env", "halfcheetah", "--quick"]
        return study_of(parse([*words, "--technique", *techniques]))

    run(study("baseline", "baseline@learning_rate=1e30"), tmp_path / "both")
    run(study("baseline"), tmp_path / "alone")
    results = sorted((tmp_path / "both").glob("runs/*/seed_0000/result.json"))
    statuses = [json.loads(path.read_text())["status"] for path in results]
    assert sorted(statuses) == ["diverged", "done"]
    good = results[statuses.index("done")].parent
    alone = tmp_path / "alone" / good.relative_to(tmp_path / "both")
    for name in ("result.json", "history.npz", "agent.npz"):
        assert (good / name).read_bytes() == (alone / name).read_bytes(), name


SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT / "experiments")!r})
import matrix
from envs_jax.mujoco import robots as mujoco_robots
for name, robot in mujoco_robots.ROBOTS.items():
    mujoco_robots.ROBOTS[name] = robot._replace(max_episode_steps=40)
sys.exit(matrix.main(sys.argv[1:]))
"""


FULL_REPLAY = "batch_size=24 replay_ratio=24 buffer_size=900 learning_starts=300"
EPISODES = "num_steps=40 minibatch_size=32 reference_interval=500"


def study_in_a_process(
    root: Path, environment: str, algorithm: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A small study with replays that are full, in episodes of 40 steps at most."""
    settings = EPISODES if algorithm.startswith("grpo") else FULL_REPLAY
    words = (
        f"--env {environment} --algo {algorithm} --technique baseline gar --seeds 0 1 "
        f"--total-steps 6000 --set hidden=16x16 {settings} "
        f"--eval-episodes 2 --checkpoint-seconds 0 --no-plots --quiet --out {root}"
    )
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words.split()], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support")} | variables, cwd=ROOT,
        timeout=600,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "algorithm"),
    [
        ("halfcheetah", "sac"), ("ant", "td3"), ("hopper", "crossq"), ("hopper", "grpo-beta"),
        ("gymnasium:toy_gymnasium:toys/Slide-v0", "ddpg"),
    ],
)  # fmt: skip
def test_killed_in_a_checkpoint_and_run_again(tmp_path: Path, environment: str, algorithm: str):
    """SIGKILL between the two renames of the third checkpoint, with replays, engine and all; the
    second is what goes on, to the same files."""
    pytest.importorskip("gymnasium" if ":" in environment else "mujoco")
    study = partial(study_in_a_process, environment=environment, algorithm=algorithm)
    whole = study(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    point = {faults.VARIABLE: "checkpoint.moved:3"}
    killed = study(tmp_path / "killed", **point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = study(tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    assert re.search(": going on from iteration [1-9][0-9]* of (500|2000)", again.stdout)
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole") != {}
    agents = [path.relative_to(tmp_path / "whole") for path in tmp_path.glob("whole/runs/**/*.npz")]
    for name in agents:
        here, there = (tmp_path / root / name for root in ("whole", "killed"))
        assert here.read_bytes() == there.read_bytes(), name

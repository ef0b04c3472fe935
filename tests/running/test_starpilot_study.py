"""Starpilot through the runner: stops and kills lose nothing, lanes and bridges change nothing."""

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgen.results.store import open_store
from jaxgen.running.session import Interrupted
from jaxgen.study.config import replace
from jaxgen.study.product import Study
from jaxgen.study.spec import MODES, Evaluation
from jaxgen.system import checkpoint, faults
from small_runs import ROOT, Recorder, _each_spec, memory_of, run, small_study

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("procgen") is None, reason="procgen is not installed"
)

TINY = {
    # 6 iterations of 3 x 2 x 8 steps.
    "ppo": {"num_envs": 2, "num_steps": 8, "num_minibatches": 2, "total_steps": 288},
    # 5 iterations of 99 steps, the replay of 3 x 60 overwritten in the second.
    "dqn": {"buffer_size": 180, "learning_starts": 150, "total_steps": 495},
    "es": {"num_envs": 4, "population": 4, "num_steps": 20, "total_steps": 1500},
}
"""Every setting but the size is that of the real study."""


def tiny_study(algorithm: str) -> Study:
    evaluation = Evaluation(episodes=10, curve_episodes=3)
    study = small_study(
        algorithm, "starpilot", ["baseline", "gar"], [0], evaluation=evaluation,
        total_steps=60_000,
    )  # fmt: skip

    def changed(spec):
        shared = replace(spec.shared, TINY[algorithm] | {"hidden": (8,)})
        return dataclasses.replace(spec, shared=shared)

    return _each_spec(study, changed)


def outcomes(root: Path) -> dict[str, bytes]:
    """All that a run says of itself but times and machines."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted((root / "runs").rglob("*"))
        if path.name in ("result.json", "history.npz")
    }


ALL = [pytest.param(name, marks=pytest.mark.slow) for name in ("ppo", "dqn", "es")]


@pytest.fixture(scope="module", params=ALL)
def whole(request, tmp_path_factory) -> tuple[str, Path]:
    """Each algorithm's study, from one start."""
    root = tmp_path_factory.mktemp(request.param)
    run(tiny_study(request.param), root)
    return request.param, root


class Stop:
    """A `should_stop` that says so every second time."""

    asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked % 2 == 0


def test_stops_between_iterations_lose_nothing(whole, tmp_path):
    """The games go on where they were: every file is the same, that of each episode's level too."""
    name, root = whole
    stop, starts = Stop(), 0
    while True:
        starts += 1
        try:
            run(tiny_study(name), tmp_path, should_stop=stop)
            break
        except Interrupted:
            assert starts < 40
    assert starts > 2
    assert outcomes(tmp_path) == outcomes(root)


def test_lanes_alone_and_by_a_loop_give_the_same_files(whole, tmp_path):
    """One lane after the other, the games stepped from Python: not a bit of a result changes."""
    name, root = whole
    recorder = run(tiny_study(name), tmp_path, max_lanes=1, bridge="loop")
    assert len(recorder.noted("runs done in")) == len(tiny_study(name).groups[0].lanes)
    assert outcomes(tmp_path) == outcomes(root)


def test_results_name_the_levels_that_were_played(whole):
    """Means are those of the single episodes, seeds are in the ranges of their kinds: 10 episodes
    of each level, at .25 five of them unseen, at .75 five of them hard."""
    name, root = whole
    store = open_store(root, create=False)
    lane = tiny_study(name).groups[0].lanes[0]
    result = store.read_result(lane[0].name, lane[1])
    history = store.read_history(lane[0].name, lane[1])
    seeds = history["episodes_evaluation_level_seed"].reshape(5, 10)
    for mode in MODES:
        returns = history[f"episodes_evaluation_{mode}"].reshape(5, 10)
        np.testing.assert_allclose(result["evaluation"]["modes"][mode]["mean"], returns.mean(1))
    assert (seeds[0] < 200).all() and (seeds[1] < 200).sum() == 5
    assert (seeds[2:] >= 1_000_000).all()
    counts = {kind: found["episodes"] for kind, found in result["kinds"].items()}
    assert counts == {"easy seen": 15, "easy unseen": 20, "hard unseen": 15}
    assert result["references"]["ceiling"] == [64, 64, 64, 49.5, 35]
    if name == "ppo":
        # The others' episodes are cut, or go on, where these few steps end.
        assert history["episodes_level_seed"].max() < 200
        assert len(history["episodes_return"]) == result["training"]["episodes"] > 0


def test_an_arm_on_shifted_levels_plays_unseen_easy_ones(whole):
    name, root = whole
    if name == "es":
        pytest.skip("gar is an alias of baseline")
    store = open_store(root, create=False)
    spec, seed = next(lane for lane in tiny_study(name).groups[0].lanes if "gar" in lane[0].name)
    history = store.read_history(spec.name, seed)
    levels, variation = history["episodes_level_seed"], history["episodes_variation"]
    assert set(variation) <= {0, 1, 2}
    assert (levels[variation == 0] < 200).all()
    assert ((levels[variation == 2] >= 200) & (levels[variation == 2] < 1_000_000)).all()


# Memory


def test_too_little_memory_is_an_error_before_anything_is_made(tmp_path, monkeypatch):
    study = tiny_study("ppo")
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: 10**8)
    with pytest.raises(ValueError, match="ppo starpilot: 2 lanes need about .* GB of memory"):
        run(study, tmp_path)
    assert not checkpoint.saved_in(tmp_path / "checkpoints")


@pytest.mark.slow
def test_auto_takes_as_many_lanes_as_memory_holds(tmp_path, monkeypatch):
    """Memory for one and a half of the two."""
    study = tiny_study("ppo")
    memory = memory_of(study)
    enough = memory.shared + int(1.5 * memory.per_lane)
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: enough)
    recorder: Recorder = run(study, tmp_path)
    assert len(recorder.noted("runs done in")) == 2
    assert recorder.noted("2 lanes need about")


# Kills in earnest

SCRIPT = """
import sys
sys.path[:0] = [{experiments!r}, {support!r}, {tests!r}]
import matrix, test_starpilot_study
matrix.study_of = lambda args: test_starpilot_study.tiny_study("ppo")
sys.exit(matrix.main(sys.argv[1:]))
"""


def start(root: Path, **variables: str) -> subprocess.CompletedProcess:
    code = SCRIPT.format(
        experiments=str(ROOT / "experiments"), support=str(ROOT / "tests" / "support"),
        tests=str(ROOT / "tests" / "running"),
    )  # fmt: skip
    words = ["--out", str(root), "--checkpoint-seconds", "0", "--no-plots", "--quiet"]
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300,
        env=os.environ | variables, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.slow
def test_killed_in_a_checkpoint_and_run_again(tmp_path):
    """SIGKILL between the two renames of the third checkpoint; the second is what goes on."""
    run(tiny_study("ppo"), tmp_path / "whole")
    killed = start(tmp_path / "killed", **{faults.VARIABLE: "checkpoint.moved:3"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = start(tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    assert "ppo starpilot: going on from iteration 2 of 6" in again.stdout
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole") != {}

"""The command that searches for hyper-parameters: its files, its verdict, and how it goes on."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import tune
from jaxgen.results import log
from jaxgen.results.store import open_store
from small_runs import refused

WORDS = [
    "cartpole", "ppo", "--total-steps", "7680", "--set", "num_variations=1", "num_envs=12",
    "--search", "learning_rate=log:1e-4..1e-2", "--trials", "6", "--batch", "4", "--seeds", "0",
    "1", "--test-seeds", "2", "--test-episodes", "4", "--eval-episodes", "4", "--quick", "--quiet",
    "--name", "small",
]  # fmt: skip
FILES = {"results.json", "trials.csv", "log.jsonl", "history.png", "slice.png", "parallel.png"}


def started(root: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(Path(tune.__file__)), *WORDS, "--out", str(root), *words]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=900
    )


def folder_of(root: Path) -> Path:
    return root / "PPO_CartPole" / "small"


def results_of(root: Path) -> dict[str, Any]:
    return json.loads((folder_of(root) / "results.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    assert tune.main([*WORDS, "--out", str(root)]) == 0
    return root


def test_every_file_is_there_and_holds_what_was_tried(whole):
    """Six trials of two seeds, values are those of their runs' curves, in order of the log."""
    folder, results = folder_of(whole), results_of(whole)
    assert {path.name for path in folder.iterdir()} == FILES | {"importances.png"}
    assert [trial["state"] for trial in results["trials"]] == ["complete"] * 6
    store = open_store(whole)
    by_rate = {}
    for name in store.run_names():
        overrides = store.read_spec(name).get("overrides", {})
        if 0 in store.seeds(name):
            by_rate[overrides.get("learning_rate")] = name
    for trial in results["trials"]:
        run = by_rate[float(trial["params"]["learning_rate"])]
        curves = [store.read_history(run, seed)["eval_return"] for seed in (0, 1)]
        assert trial["values"] == [float(curve[-1]) for curve in curves]
        assert trial["value"] == np.mean(trial["values"]) and len(trial["points"]) == 2
    best = max(results["trials"], key=lambda trial: trial["value"])
    assert results["best_trial"] == best["number"]
    assert results["best_params"] == best["params"]
    with open(folder / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["learning_rate"] for row in rows] == [
        trial["params"]["learning_rate"] for trial in results["trials"]
    ]
    kinds = [record["kind"] for record in log.read(folder / "log.jsonl")]
    assert kinds == ["study", "asked", "reached", "asked", "reached"]


def test_the_verdict_is_of_seeds_that_no_trial_had(whole):
    verdict = results_of(whole)["verdict"]
    assert verdict["seeds"] == [1000, 1001] and len(verdict["winner"]) == 2
    difference = np.subtract(verdict["winner"], verdict["default"])
    assert verdict["difference"] == pytest.approx(difference.mean())
    # The t quantile of one degree of freedom is 12.7062.
    half = 12.7062 * difference.std(ddof=1) / np.sqrt(2)
    assert verdict["half_width"] == pytest.approx(half, rel=1e-4)
    shown = abs(verdict["difference"]) > verdict["half_width"]
    assert verdict["words"].startswith("no difference shown") != shown


def test_the_same_command_trains_nothing_again_and_more_trials_go_on(whole, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("result.json")}
    assert tune.main([*WORDS, "--no-plots", "--out", str(whole)]) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("result.json")} == before
    assert "6 trials complete" in capsys.readouterr().out


@pytest.mark.slow
def test_a_parameter_that_does_nothing_shows_no_difference(tmp_path, capsys):
    """No gradient is as long as 1e6: all trials are one policy."""
    words = [*WORDS, "--trials", "3"]
    words[words.index("learning_rate=log:1e-4..1e-2")] = "max_grad_norm=1e6..1e7"
    assert tune.main([*words, "--no-plots", "--sampler", "random", "--out", str(tmp_path)]) == 0
    results = results_of(tmp_path)
    values = {tuple(trial["values"]) for trial in results["trials"]}
    assert len(values) == 1 and results["not_told_apart_from_the_best"] == [1, 2]
    assert "2 of the 2 other complete trials cannot be told apart" in capsys.readouterr().out


@pytest.mark.slow
def test_halving_gives_trials_up_and_those_that_stay_are_what_they_would_have_been(
    whole, tmp_path
):
    """The first four trials of the same sampler: two end at the first point; the others return
    what they do without a pruner, as a stretch goes on exactly."""
    words = [*WORDS, "--trials", "4", "--pruner", "halving", "--test-seeds", "0", "--no-plots"]
    assert tune.main([*words, "--out", str(tmp_path)]) == 0
    ours, theirs = results_of(tmp_path)["trials"], results_of(whole)["trials"]
    assert [trial["params"] for trial in ours] == [trial["params"] for trial in theirs[:4]]
    assert sorted(trial["state"] for trial in ours) == ["complete"] * 2 + ["pruned"] * 2
    firsts = [np.mean(trial["points"][0]) for trial in theirs[:4]]
    for trial, other in zip(ours, theirs, strict=False):
        reached = len(trial["points"])
        assert reached == (2 if trial["state"] == "complete" else 1)
        assert trial["points"] == other["points"][:reached]
        if trial["state"] == "pruned":
            assert np.mean(trial["points"][0]) <= np.median(firsts)


@pytest.mark.slow
def test_a_population_goes_on_from_its_best(tmp_path):
    """Four members, two generations: the lowest copies the highest, and has its past."""
    words = [*WORDS, "--sampler", "pbt", "--trials", "4", "--no-plots", "--seeds", "0"]
    assert tune.main([*words, "--out", str(tmp_path)]) == 0
    results = results_of(tmp_path)
    records = log.read(folder_of(tmp_path) / "log.jsonl")
    assert [record["kind"] for record in records[1:]] == [
        "asked", "reached", "generation", "reached",
    ]  # fmt: skip
    firsts = [trial["points"][0][0] for trial in results["trials"]]
    sources = records[3]["sources"]
    (copied,) = [member for member in range(4) if sources[member] != member] or [None]
    if copied is not None:
        assert firsts[copied] == min(firsts) and firsts[sources[copied]] == max(firsts)
        assert records[3]["params"][copied] != records[1]["trials"][copied]
    assert len(results["schedule"]) == 2 and results["verdict"]["seeds"] == [1000, 1001]


@pytest.mark.slow
def test_killed_at_ten_moments_the_same_command_goes_on(whole, tmp_path):
    """No trial twice, the same proposals, the same files."""
    rng = np.random.default_rng(0)
    points = ["log.before", "log.torn", "log.written", "checkpoint.placed", "result.before",
              "result.replaced", "history.written", "spec.replaced", "derived.before",
              "agent.written"]  # fmt: skip
    for point in rng.permutation(points):
        killed = started(tmp_path, JAXGEN_KILL_AT=f"{point}:{rng.integers(1, 3)}")
        assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
    again = started(tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("results.json", "trials.csv", "log.jsonl", "history.png"):
        ours, theirs = (folder_of(root) / name for root in (tmp_path, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.mark.slow
def test_a_learning_rate_that_learns_is_found(tmp_path):
    """From 1e-6, which does not move, to 1, which destroys: what is found lies in between."""
    words = ["cartpole", "ppo", "--total-steps", "30000", "--search", "learning_rate=log:1e-6..1",
             "--trials", "20", "--num-seeds", "2", "--test-seeds", "0", "--quiet", "--name",
             "small", "--out", str(tmp_path)]  # fmt: skip
    assert tune.main(words) == 0
    results = results_of(tmp_path)
    assert 1e-4 < float(results["best_params"]["learning_rate"]) < 2e-2
    by_rate = {float(t["params"]["learning_rate"]): t["value"] for t in results["trials"]}
    inside = [value for rate, value in by_rate.items() if 1e-4 < rate < 2e-2]
    outside = [value for rate, value in by_rate.items() if rate < 2e-5 or rate > 0.2]
    assert max(inside) > 400 and np.mean(inside) > np.mean(outside) + 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search", "gamma=0.9..2"], "gamma = 2.0 is not allowed; use a share in"),
        (["--search", "gama=0.9..0.99"], "unknown configuration key 'gama', perhaps gamma"),
        (["--search", "num_envs=4,8"], "num_envs is set and searched; do the one or the other"),
        (["--test-seeds", "1"], "--test-seeds 1 is not allowed; use 2 or more"),
        (["--seeds", "1001"], "seed 1001 is one of the verdict's"),
        (["--trials", "0"], "--trials 0 is not allowed; use 1 or more"),
        (["--sampler", "grid"], "a grid needs alternatives, but learning_rate has a range"),
        (["--sampler", "pbt", "--pruner", "median"], "pbt gives up no member"),
        (["--technique", "baseline", "dr"], "one arm is tuned at a time, not baseline and dr"),
        (["--only", "gamma"], "--only says what --refine searches again"),
        (["--refine", "none.json", "--search", "gamma=0.9..0.99"], "leave out --search"),
        (["--space", "none.txt"], "none.txt cannot be read"),
        (["--env", "cartpole"], "environment and algorithm come first"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, words, message):
    refused(tune.main, "tune.py", [*WORDS, "--out", str(tmp_path), *words], capsys, message)


def test_another_search_of_the_name_is_refused(whole, capsys):
    other = [*WORDS, "--sampler-seed", "5", "--out", str(whole)]
    refused(tune.main, "tune.py", other, capsys, "is of another search: sampler_seed is 0 there")


def test_a_second_round_is_narrower(whole, tmp_path):
    args = tune.parse([
        "cartpole", "ppo", "--quick", "--refine", str(folder_of(whole) / "results.json"),
        "--only", "learning_rate", "--out", str(tmp_path),
    ])  # fmt: skip
    space: Any = tune.asked_of(args).search.space["learning_rate"]
    best = float(results_of(whole)["best_params"]["learning_rate"])
    assert space.low <= best <= space.high and space.high / space.low < 100**0.31

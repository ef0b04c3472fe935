"""The command of connectivity studies: from parents to verdicts, and on again."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import connect
from jaxgen.results.lines import read_lines
from jaxgen.results.store import open_store
from small_runs import refused

WORDS = [
    "--env", "cartpole", "--algo", "ppo", "--seeds", "0", "1", "--fork-points", "0,0.5",
    "--total-steps", "15360", "--controls", "identical", "permuted", "--critics", "--quick",
    "--quiet", "--checkpoint-seconds", "0",
]  # fmt: skip


def files_of(root):
    """All files but those that say when and where, and the states in snapshots, which are written
    with random names."""
    return {
        path.relative_to(root): path.read_bytes() for path in root.rglob("*")
        if path.is_file() and path.name not in ("provenance.json", ".lock", "plan.json")
        and ("snapshots" not in path.parts or path.suffix == ".npz")
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study with two controls, run once."""
    root = tmp_path_factory.mktemp("whole")
    assert connect.main([*WORDS, "--out", str(root)]) == 0
    return root


def test_from_parents_to_verdicts(whole):
    """Lines whose ends are the forks' final policies; forks from the start are further apart than
    later ones, those without noise are one, and a permuted copy is found again."""
    lines, damaged = read_lines(open_store(whole, create=False))
    by_strategy = {
        name: [line for line in lines if line.meta["strategy"] == name]
        for name in ("copy", "identical", "permuted")
    }
    assert len(lines) == 2 * (2 + 2 + 2) and not damaged
    for line in by_strategy["copy"]:
        assert line.returns.shape == (11, 1, 8) and line.distance > 0
        assert line.meta["point"] in (0.0, 0.5) and len(line.meta["ends"]) == 2
        assert line.critics is not None and line.critics.shape == (3, 11)
    apart = {
        point: np.mean([line.distance for line in by_strategy["copy"]
                        if line.meta["point"] == point])
        for point in (0.0, 0.5)
    }  # fmt: skip
    assert apart[0.5] < apart[0.0]
    for line in by_strategy["identical"]:
        assert line.distance == 0 and (line.returns == line.returns[:1]).all()
    for line in by_strategy["permuted"]:
        assert (line.distance == 0) == (line.meta["path"] == "aligned")
        assert (line.returns[0] == line.returns[-1]).mean() > 0.8
    assert {path.name for path in (whole / "plots").iterdir()} == {
        f"cartpole_ppo_baseline_{kind}.png"
        for kind in ("instability_over_time", "heat_map", "distance", "policy_and_critic")
    }  # fmt: skip


def test_lines_that_are_lost_are_walked_again_alike(whole, tmp_path):
    """And tables and figures follow from them alone."""
    root = Path(shutil.copytree(whole, tmp_path / "again"))
    before = files_of(root)
    shutil.rmtree(root / "plots")
    (gone, *_) = sorted((root / "lines").rglob("*.npz"))
    gone.unlink()
    (root / "lines" / gone.parents[1].name / "seed_0000" / "fork_0.5_copy.npz").write_bytes(b"1")
    assert connect.main([*WORDS, "--out", str(root)]) == 0
    assert files_of(root) == before


def started(root: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(Path(connect.__file__)), *WORDS, "--out", str(root), *words]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    ["checkpoint.placed:3", "derived.before:2", "derived.written:14"],
)
def test_killed_at_any_moment_the_same_command_goes_on(whole, tmp_path, point):
    """While parents train, forks train, lines are walked and figures are drawn."""
    root = tmp_path / "killed"
    killed = started(root, JAXGEN_KILL_AT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = started(root)
    assert again.returncode == 0, again.stderr
    assert files_of(root) == files_of(whole)


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes(whole, tmp_path):
    root = tmp_path / "workers"
    done = started(root, "--launcher", "local", "--workers", "2")
    assert done.returncode == 0, done.stderr
    ours, theirs = files_of(whole), files_of(root)
    named = [name for name in ours if not str(name).startswith(("checkpoints", "workers"))]
    assert named and all(ours[name] == theirs.get(name) for name in named)


def test_a_check_trains_the_parents_alone(tmp_path, capsys):
    words = ["--env", "cartpole", "--algo", "ppo", "--quick", "--check", "--list"]
    assert connect.main([*words, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("lanes x") == 1


def test_flags_say_what_the_matrix_says(tmp_path, capsys):
    """Presets, settings, points of learning curves and budgets; a file says the same."""
    words = ["--env", "cartpole", "--algo", "ppo", "--set", "learning_rate=0.001",
             "--eval-freq", "7680", "--seeds", "3", "--total-steps", "30720"]  # fmt: skip
    args = connect.parse([*words, "--out", str(tmp_path)])
    (spec,) = connect.parents(args).groups[0].specs
    assert spec.config.learning_rate == 0.001 and spec.config.curve_iterations == 20
    assert spec.config.total_steps == 30720 and spec.evaluation.episodes == 100
    file = tmp_path / "study.json"
    file.write_text('{"env": ["cartpole"], "algo": ["ppo"], "set": ["learning_rate=0.001"], '
                    '"eval_freq": 7680, "seeds": [3], "total_steps": 30720}')  # fmt: skip
    assert connect.parents(connect.parse(["--config", str(file)])) == connect.parents(args)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fork-points", "1.5"], "fork point 1.5 is not allowed; use shares in [0, 1)"),
        (["--fork-points", "0.5,0.5"], "fork point 0.5 is given twice"),
        (["--fork-points", "0.5,0.501"], "are the same iteration"),
        (["--buffers", "fresh"], "'fresh' does not apply to ppo, which learns from what it has"),
        (["--forks", "3"], "--forks 3 is not allowed; use 2 or another even number"),
        (["--alphas", "10"], "10 alphas are not allowed; use an odd number"),
        (["--episodes", "2"], "2 episodes are not allowed; use 4 or more"),
        (["--levels", "2"], "variation level 2.0 is outside [0, 1]"),
        (["--num-seeds", "-1"], "--num-seeds -1 is not allowed"),
        (["--controls", "same"], "control 'same' is not allowed; use one of identical, order"),
        (["--seeds", "1", "--controls", "independent"], "joins two parents; use two seeds"),
        (["--eval-freq", "-3"], "curve_steps = -3 is not allowed"),
        (["--max-episode-steps", "5"], "needs an environment of Gymnasium"),
        (["--fork-points", "0.5", "--horizon", "999999"], "not the 999999 env steps"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, words, message):
    usual = ["--env", "cartpole", "--algo", "ppo", "--quick", "--out", str(tmp_path)]
    refused(connect.main, "connect.py", [*usual, *words], capsys, message)


def test_a_random_seed_is_printed_and_used(tmp_path, capsys):
    words = ["--env", "cartpole", "--algo", "ppo", "--quick", "--seed", "--list"]
    assert connect.main([*words, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    seed = int(out.split()[1])
    assert out.startswith("seed ") and f"seeds {seed}" in out

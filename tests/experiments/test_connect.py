"""The command of connectivity studies: from parents to verdicts, and on again."""

import shutil

import numpy as np
import pytest

from experiments import connect
from jaxgen.results.lines import read_lines
from jaxgen.results.store import open_store
from small_runs import refused

WORDS = [
    "--env", "cartpole", "--algo", "ppo", "--seeds", "0", "1", "--fork-points", "0,0.5",
    "--total-steps", "15360", "--quick", "--quiet",
]  # fmt: skip


def files_of(root):
    """All files but those that say when and where."""
    return {
        path.relative_to(root): path.read_bytes() for path in root.rglob("*")
        if path.is_file() and path.name not in ("provenance.json", ".lock", "plan.json")
    }  # fmt: skip


def test_from_parents_to_verdicts_and_the_same_again(tmp_path, capsys):
    """Four lines, whose ends are the forks' final policies; what is lost is made again alike."""
    root = tmp_path / "one"
    assert connect.main([*WORDS, "--out", str(root)]) == 0
    assert "PPO on CartPole, baseline" in capsys.readouterr().out
    lines, damaged = read_lines(open_store(root, create=False))
    assert len(lines) == 4 and not damaged
    for line in lines:
        assert line.returns.shape == (11, 1, 8) and line.distance > 0
        assert line.meta["point"] in (0.0, 0.5) and len(line.meta["ends"]) == 2
    before = files_of(root)
    shutil.rmtree(root / "lines")
    assert connect.main([*WORDS, "--out", str(root)]) == 0
    assert files_of(root) == before


def test_forks_from_the_start_are_further_apart_than_later_ones(tmp_path):
    root = tmp_path / "one"
    assert connect.main([*WORDS, "--no-plots", "--out", str(root)]) == 0
    lines, _ = read_lines(open_store(root, create=False))
    by_point = {
        point: np.mean([line.distance for line in lines if line.meta["point"] == point])
        for point in (0.0, 0.5)
    }
    assert by_point[0.5] < by_point[0.0]


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

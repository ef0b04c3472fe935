"""Agents of a finished study play again: as they did, on other levels, over other episodes."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from envs_jax import make_task
from experiments import matrix
from jaxgen.results.store import AGENT, Store
from jaxgen.running.evaluating import Asked, evaluate_store
from jaxgen.study.config import SHIFT_LEVELS
from jaxgen.study.spec import MODES
from small_runs import SHORT, identities, refused, run, small_study

EPISODES = SHORT["evaluation"].episodes
STUDY = small_study(**SHORT)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("done")
    run(STUDY, root)
    return root


@pytest.fixture
def copied(done, tmp_path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copied"))


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def test_the_same_levels_and_episodes_give_the_studys_own_returns(copied):
    before, store = identities(copied), Store(copied)
    found = evaluate_store(store, make_task, Asked(SHIFT_LEVELS, EPISODES, per_episode=True))
    table, episodes = map(rows_of, found.files)
    assert len(table) == 4 * 2 * 5 and len(episodes) == len(table) * EPISODES
    assert identities(copied) == before
    for row in table:
        result = store.read_result(row["run"], int(row["seed"]))["evaluation"]
        level = result["levels"].index(float(row["level"]))
        for name in ("mean", "standard_error"):
            assert float(row[name]) == result["modes"][row["mode"]][name][level]
        own = [float(e["return"]) for e in episodes
               if all(e[key] == row[key] for key in ("run", "seed", "mode", "level"))]  # fmt: skip
        np.testing.assert_allclose(np.mean(own), float(row["mean"]), rtol=1e-6)
    assert found.lines[1] == "CartPole (greedy, mean over n seeds)" and found.left_aside == []
    assert len(found.lines) == 3 + 2


def test_other_levels_are_played_in_the_order_in_which_they_are_given(copied):
    orders = (0.9, 0.1, 0.7, 0.3, 0.5), (0.1, 0.2, 0.4, 0.6, 0.8)
    first, second = (
        evaluate_store(Store(copied), make_task, Asked(levels, EPISODES, False))
        for levels in orders
    )
    assert len(first.files) == 1 and first.files != second.files
    tables = [rows_of(found.files[0]) for found in (first, second)]
    for table, levels in zip(tables, orders):
        assert [float(row["level"]) for row in table[:5]] == list(levels)
    of_first, of_second = ([r for r in table if r["level"] == "0.1"] for table in tables)
    assert of_first == of_second
    assert {row["mode"] for row in of_second} == set(MODES)


def test_runs_without_a_whole_agent_are_named(copied):
    files = sorted(copied.glob(f"runs/*/*/{AGENT}"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-9])
    shutil.copy(files[2], files[3])
    found = evaluate_store(Store(copied), make_task, Asked((0.0, 0.3), 5, False))
    assert [str(file) in line for file, line in zip(files, found.left_aside)] == [True, True, False]
    assert "it was not kept" in found.left_aside[0] and "it is a copy of" in found.left_aside[2]
    files[2].unlink()
    with pytest.raises(ValueError, match=r"holds no agent.npz of a finished run; agents are kept"):
        evaluate_store(Store(copied), make_task, Asked((0.0, 0.3), 5, False))


def test_the_command_line_says_where_it_wrote(copied, capsys):
    words = ["--evaluate", str(copied), "--levels", "0", "0.3", "--episodes", "5"]
    assert matrix.main(words) == 0
    out = capsys.readouterr().out
    assert "J(0.3)" in out
    assert out.splitlines()[-1].startswith(str(copied / "evaluations" / "2_levels_5_ep"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--levels", "2"], "variation level 2.0 is outside [0, 1]; leave it out"),
        (["--levels", "0", "0"], "level 0 is given twice; name each level once"),
        (["--episodes", "1"], "episodes = 1 is not allowed; use 2 or more"),
    ],
)
def test_what_cannot_be_played_is_refused(done, capsys, words, message):
    refused(matrix.main, "matrix.py", ["--evaluate", str(done), *words], capsys, message)

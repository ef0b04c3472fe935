"""Two commits side by side: what is found to differ, what may, the ratios of their speed."""

import io
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import same_results
from same_results import NAMES, STUDIES, Side, compare, main, parse

import checkouts
import commits
from checkouts import WORKING_TREE, NotRun

RUN = "runs/ppo_cartpole_gar-n-01234567"
SPEC = {"config": {"gamma": 0.99, "hidden": [64, 64]}, "alias_of": None, "sha256": "a"}


def write(root, spec=SPEC, run=RUN, **arrays):
    """A results folder of one run and seed."""
    folder = root / run / "seed_0000"
    folder.mkdir(parents=True)
    (folder.parent / "spec.json").write_text(json.dumps(spec))
    (folder / "result.json").write_text(json.dumps({"mean": [1.0, 2.0], "sha256": "b"}))
    (folder / "provenance.json").write_text(str(root))
    stream = io.BytesIO()
    arrays = {"loss": np.array([1.0, np.nan, 3.0])} | arrays
    np.savez(stream, allow_pickle=False, **arrays)
    (folder / "history.npz").write_bytes(stream.getvalue())
    return root


@pytest.fixture
def base(tmp_path):
    return write(tmp_path / "base")


@pytest.fixture
def other(tmp_path):
    """Makes the other side."""
    return lambda *args, **kwargs: write(tmp_path / "other", *args, **kwargs)


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training: the specs of commits, and what was asked for."""
    specs, runs, asked = {}, {"def": RUN.replace("0123", "4567")}, []

    def train(study, side, folder, cache):
        asked.append((study.name, side.commit))
        root = side.results / study.name
        if not root.exists():
            write(root, specs.get(side.commit, SPEC), runs.get(side.commit, RUN))
        (root / "finished.json").write_text(json.dumps(same_results.how(study)))
        return "1 s"

    monkeypatch.setattr(same_results, "find_commit", lambda name: name or WORKING_TREE)
    monkeypatch.setattr(same_results, "checkout", nullcontext)
    monkeypatch.setattr(same_results, "train", train)
    return specs, asked


def test_equal_results_are_identical_whatever_else_differs(base, other):
    """Provenance is never the same twice."""
    assert compare(base, other()) == (3, [])


def test_a_value_is_named_by_its_keys_and_a_seal_is_not(base, other):
    spec = SPEC | {"config": {"gamma": 0.9, "hidden": [64, 32], "new": {"a": 1}}, "sha256": "c"}
    assert compare(base, other(spec))[1] == [
        "ppo_cartpole_gar-n/spec.json: config.gamma: 0.99 -> 0.9",
        "ppo_cartpole_gar-n/spec.json: config.hidden.1: 64 -> 32",
        "ppo_cartpole_gar-n/spec.json: config.new.a: absent -> 1",
    ]


@pytest.mark.parametrize(
    ("excepted", "left"),
    [(["config"], 0), (["config.new", "config.gamma"], 0), (["config.gamma"], 1), (["conf"], 2)],
)
def test_what_may_differ_is_dropped_with_all_below_it(base, other, excepted, left):
    """The hashes of the folders follow what they are of."""
    config = {"gamma": 0.9, "hidden": [64, 64], "new": {"a": 1}}
    folder = other(SPEC | {"config": config, "sha256": "c"}, RUN.replace("0123", "4567"))
    assert len(compare(base, folder, excepted)[1]) == left


def test_runs_are_matched_by_name_where_hashes_differ(base, other):
    assert compare(base, other(run=RUN.replace("0123", "4567")))[1] == [
        "ppo_cartpole_gar-n: matched by name, as the hashes differ: 01234567, 45674567"
    ]


def test_bytes_count_where_no_value_differs(base, other):
    folder = other()
    spec = folder / RUN / "spec.json"
    spec.write_text(spec.read_text() + "\n")
    assert compare(base, folder)[1] == [
        "ppo_cartpole_gar-n/spec.json: bytes differ, and no value"
    ]


def test_arrays_are_named_with_how_much_they_differ(base, other):
    folder = other(loss=np.array([1.0, np.nan, 3.5]), extra=np.zeros(2))
    assert [line.partition(": ")[2] for line in compare(base, folder)[1]] == [
        "extra: only in OTHER", "loss: 1 of 3 differ by at most 0.5"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([1.0, 2.0, 3.0], "1 of 3 differ"),
        ([-0.0, 2.0], "float64[3] -> float64[2]"),
        (np.array([1.0, np.nan, 3.0], np.float32), "float64[3] -> float32[3]"),
    ],
)
def test_a_lack_a_shape_and_a_type_are_differences(base, other, after, said):
    (line,) = compare(base, other(loss=np.asarray(after)))[1]
    assert line.endswith(f"loss: {said}")


def test_runs_and_files_that_one_side_lacks_are_differences(base, other):
    folder = other()
    (folder / RUN / "seed_0000" / "history.npz").unlink()
    (folder / "runs" / "ppo_cartpole_dr-01234567").mkdir()
    assert compare(base, folder) == (3, [
        "ppo_cartpole_dr: only in OTHER",
        "ppo_cartpole_gar-n/seed_0000/history.npz: only in BASE",
    ])  # fmt: skip


def test_two_empty_folders_are_not_the_same_results(tmp_path):
    assert compare(tmp_path, tmp_path) == (0, ["there is nothing to compare"])


def test_a_commit_is_run_once_and_the_working_tree_each_time(trained, tmp_path, capsys):
    specs, asked = trained
    words = ["abc", "--keep", str(tmp_path), "--only", "ppo-cartpole"]
    assert main(words) == 0
    assert main(words) == 0
    assert asked == [
        ("ppo-cartpole", "abc"), ("ppo-cartpole", WORKING_TREE), ("ppo-cartpole", WORKING_TREE),
    ]  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1] == (
        "ppo-cartpole: 3 files, identical (kept, 1 s)"
    )
    specs["def"] = SPEC | {"alias_of": "other"}
    assert main([*words[:1], "def", *words[1:]]) == 1
    assert "alias_of: null -> \"other\"" in capsys.readouterr().out
    assert main([*words[:1], "def", *words[1:], "--except", "alias_of"]) == 0
    assert "identical but for the folders' hashes (matched by name)" in capsys.readouterr().out


def test_kept_results_of_other_flags_are_made_anew(trained, tmp_path):
    side, study = Side("abc", tmp_path), STUDIES[0]
    same_results.train(study, side, tmp_path, tmp_path)
    assert same_results.is_kept(study, side)
    assert not same_results.is_kept(study._replace(total_steps=384), side)


def test_games_are_left_out_on_request_and_with_a_line_without_procgen(monkeypatch, capsys):
    assert [one.name for one in same_results.chosen(parse(["abc", "--no-starpilot"]))] == NAMES[:6]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(same_results.importlib.util, "find_spec", lambda name: None)
    assert [one.name for one in same_results.chosen(parse(["abc"]))] == NAMES[:6]
    assert "procgen is not installed" in capsys.readouterr().out


def test_an_unknown_commit_is_refused(capsys):
    assert main(["no-such-commit"]) == 2
    assert "no-such-commit" in capsys.readouterr().err
    with pytest.raises(NotRun, match="no-such-commit"):
        checkouts.find_commit("no-such-commit")
    assert checkouts.find_commit(None) == WORKING_TREE


# Speed


def test_turns_come_in_pairs_whose_order_alternates():
    order, both = [], (Path("base"), Path("other"))

    def turn(folder, empty):
        assert not list(empty.iterdir())
        order.append(folder.name)
        return {"wall": float(len(order))}

    pairs = commits.take_turns(turn, both, 3)
    assert order == ["base", "other", "other", "base", "base", "other"]
    assert [[side["wall"] for side in pair] for pair in pairs] == [[1, 2], [4, 3], [5, 6]]


def test_a_ratio_is_the_median_of_those_of_the_pairs():
    """The machine is half as fast in the second pair: 2, .5, 1.5, where medians would give 1."""
    pairs = [[{"wall": before, "probe": 0.0}, {"wall": after, "probe": 1.0}]
             for before, after in ((1.0, 2.0), (8.0, 4.0), (4.0, 6.0))]
    found = commits.summary(pairs)
    assert found["wall"] == {"base": 4, "other": 4, "ratio": 1.5, "lowest": 0.5, "highest": 2}
    assert found["probe"]["ratio"] is None
    lines = commits.table([{"case": "es-minigrid", "phases": found}]).splitlines()
    assert lines[2:] == [
        "| es-minigrid | wall | 4.00 | 4.00 | 1.500 | 0.500 to 2.000 |",
        "| es-minigrid | probe | 0.00 | 1.00 | - | - |",
    ]


def test_a_program_has_a_tenth_of_its_budget():
    words = commits.flags("es-minigrid")
    assert words[:6] == ["--algo", "es", "--env", "minigrid", "--total-steps", "800000"]
    assert len(commits.PROGRAMS) == 6

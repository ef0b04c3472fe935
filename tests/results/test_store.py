"""The results folder: what is written comes back, whole, or is named as damaged."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgen.results import lock, store
from jaxgen.results.lock import StoreError
from jaxgen.results.store import open_store
from jaxgen.system import faults, files
from jaxgen.system.files import DamagedFile

ROOT = Path(__file__).parents[2]
RUN = "ppo_cartpole_gar+reg-0123abcd"
SPEC = {"algorithm": "ppo", "levels": [0.0, 0.25]}
RESULT = {"status": "done", "returns": [1.5, 2.0]}
HISTORY = {"reward": np.array([1.0, np.nan, 3.0], np.float32), "step": np.arange(3)}
PROVENANCE = {"seconds": 1.25}


@pytest.fixture
def results(tmp_path):
    return open_store(tmp_path / "results")


@pytest.fixture
def filled(results):
    write_run(results)
    return results


def write_run(results, seed=0, **changes):
    results.write_spec(RUN, SPEC)
    results.write_result(RUN, seed, RESULT | changes, HISTORY, PROVENANCE)


def files_of(root):
    """Every file's bytes by its path, without the lock."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# Canonical JSON


def test_canonical_json_does_not_depend_on_order_or_number_types():
    ours = {"b": (1, np.float32(0.5)), "a": np.array([[1, 2]])}
    assert files.canonical_json(ours) == files.canonical_json({"a": [[1, 2]], "b": [1, 0.5]})
    assert files.canonical_json(ours).endswith("}\n")


def test_content_hash_is_eight_digits_of_the_canonical_bytes():
    # printf '{\n  "a": 1\n}\n' | sha256sum
    assert files.content_hash({"a": 1}) == "5e36b656"
    assert files.content_hash({"a": 2}) != files.content_hash({"a": 1})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan")])
def test_json_refuses_what_is_no_number_and_names_its_place(bad):
    with pytest.raises(ValueError, match=r"scores\.grs\[1\] is (nan|inf)"):
        files.canonical_json({"scores": {"grs": [0.0, bad]}})


def test_json_refuses_other_types_and_keys():
    with pytest.raises(ValueError, match=r"a\.b is of type set"):
        files.canonical_json({"a": {"b": set()}})
    with pytest.raises(ValueError, match="key 1 of a"):
        files.canonical_json({"a": {1: 2}})


# Names


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "../x", "a..b", ".hidden", "-x", "a b", "a\n", "x" * 201]
)
def test_names_that_are_paths_or_odd_are_refused(name):
    with pytest.raises(ValueError, match="not allowed as a name"):
        files.check_name(name)


def test_ordinary_names_are_allowed():
    for name in ("a", RUN, "x" * 200, "dr-scaled+reg_1.5", "gar@learning_rate=1e-05"):
        assert files.check_name(name) == name


@pytest.mark.parametrize("write", ["write_text", "run_dir", "path"])
def test_no_file_can_leave_the_root(results, write):
    arguments = ("../escape", "text") if write == "write_text" else ("../escape",)
    with pytest.raises(ValueError, match="not allowed as a name"):
        getattr(results, write)(*arguments)


def test_a_link_out_of_the_root_is_refused(results, tmp_path):
    (results.root / "plots").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of"):
        results.write_text("plots/x.txt", "text")


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0"])
def test_bad_seeds_are_refused(results, seed):
    with pytest.raises(ValueError, match="seed .* is not allowed"):
        results.seed_dir(RUN, seed)


# Opening


def test_opening_again_finds_the_same_folder(filled):
    before = files_of(filled.root)
    assert open_store(filled.root).check_run(RUN, 0) == "done"
    assert open_store(filled.root, create=False).check_run(RUN, 0) == "done"
    assert files_of(filled.root) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    # Below a regular file nobody can write, root neither.
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/results cannot be written"):
        open_store(tmp_path / "file" / "results")


def test_a_regular_file_is_no_results_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(tmp_path / "file")


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"no store\.json"):
        open_store(tmp_path)
    assert files_of(tmp_path) == {"thesis.tex": b""}


def test_another_schema_is_refused_and_named(results):
    (results.root / "store.json").write_bytes(files.seal({"kind": store.KIND, "schema": 99}))
    with pytest.raises(StoreError, match="has schema 99 and this version needs 1"):
        open_store(results.root)


def test_a_damaged_marker_is_refused(results):
    (results.root / "store.json").write_text("{")
    with pytest.raises(StoreError, match=r"store\.json: it is no valid JSON"):
        open_store(results.root)


def test_reading_needs_results(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(StoreError, match="there are no results in"):
            open_store(folder, create=False)
    assert not (tmp_path / "nothing").exists()


# Runs


def test_a_run_comes_back(filled):
    assert filled.read_spec(RUN) == SPEC | {"schema": 1}
    result = filled.read_result(RUN, 0)
    assert len(result.pop("history_sha256")) == 64
    assert result == RESULT | {"schema": 1}
    history = filled.read_history(RUN, 0)
    assert sorted(history) == sorted(HISTORY)
    for name, values in HISTORY.items():
        np.testing.assert_array_equal(history[name], values)
        assert history[name].dtype == values.dtype
    assert filled.read_provenance(RUN, 0) == PROVENANCE
    assert filled.is_done(RUN, 0)
    assert filled.check_run(RUN, 1) == "missing"


def test_equal_runs_are_equal_bytes(tmp_path):
    first, second = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    write_run(first)
    second.write_spec(RUN, dict(reversed(SPEC.items())))
    second.write_result(RUN, 0, RESULT, dict(reversed(HISTORY.items())), PROVENANCE)
    assert files_of(first.root) == files_of(second.root)


def test_a_folder_keeps_its_spec(filled):
    assert filled.write_spec(RUN, SPEC) is None
    with pytest.raises(StoreError, match="is of another spec"):
        filled.write_spec(RUN, SPEC | {"algorithm": "dqn"})


def test_a_damaged_spec_is_named_and_replaced(filled):
    path = filled.run_dir(RUN) / "spec.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    damage = filled.write_spec(RUN, SPEC)
    assert damage is not None and damage.path == path
    assert path.read_bytes() == whole


def test_a_result_with_nan_writes_nothing_and_keeps_the_old_one(filled):
    before = files_of(filled.root)
    with pytest.raises(ValueError, match="loss is nan"):
        write_run(filled, loss=float("nan"))
    with pytest.raises(ValueError, match="reserved|belongs to the seal"):
        write_run(filled, sha256="")
    with pytest.raises(ValueError, match="written by the store"):
        write_run(filled, history_sha256="")
    with pytest.raises(ValueError, match="schema 2 is not allowed"):
        write_run(filled, schema=2)
    assert files_of(filled.root) == before


def test_a_history_holds_numbers_only(results):
    with pytest.raises(ValueError, match="array 'names' has dtype object"):
        results.write_result(RUN, 0, {}, {"names": np.array([None])}, {})


def test_a_discarded_run_is_missing(filled):
    filled.discard(RUN, 0)
    assert filled.check_run(RUN, 0) == "missing"
    filled.discard(RUN, 0)


@pytest.mark.parametrize("name", ["result.json", "history.npz", "provenance.json"])
def test_every_flipped_bit_and_every_truncation_is_found_and_named(filled, name):
    path = filled.seed_dir(RUN, 0) / name
    whole = path.read_bytes()
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        assert filled.check_run(RUN, 0).startswith(f"damaged: {path}: "), offset
        path.write_bytes(whole[:offset])
        assert filled.check_run(RUN, 0).startswith(f"damaged: {path}: "), offset
    path.write_bytes(whole)
    assert filled.is_done(RUN, 0)


@pytest.mark.parametrize("name", ["history.npz", "provenance.json"])
def test_a_missing_file_is_named(filled, name):
    path = filled.seed_dir(RUN, 0) / name
    path.unlink()
    assert filled.check_run(RUN, 0) == f"damaged: {path}: No such file or directory"


def test_a_damaged_run_is_never_read(filled):
    path = filled.seed_dir(RUN, 0) / "history.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match=r"history\.npz: its content does not match"):
        filled.read_history(RUN, 0)


def test_scan_lists_the_whole_the_damaged_and_the_aliases(filled):
    write_run(filled, seed=12345)
    write_run(filled, seed=2)
    damaged = filled.seed_dir(RUN, 2) / "result.json"
    damaged.write_text("{}")
    filled.write_spec("es_cartpole_gar-00000000", {"alias_of": "es_cartpole_dr-00000000"})
    filled.run_dir("nospec-0123abcd").mkdir()
    found = store.scan(filled)
    assert [(run.run_name, run.seed) for run in found.runs] == [(RUN, 0), (RUN, 12345)]
    assert found.runs[0].spec["algorithm"] == "ppo"
    assert found.runs[0].result["status"] == "done"
    assert list(found.aliases) == ["es_cartpole_gar-00000000"]
    assert sorted(error.path for error in found.damaged) == sorted(
        [damaged, filled.run_dir("nospec-0123abcd") / "spec.json"]
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (f"{RUN}.bak", "is no run"),
        (f"{RUN} (copy)", "is no run"),
        (f"Copy of {RUN}", "is no run"),
        ("notes", "is no run"),
        ("ppo_cartpole_dr-0123abcd", "is a copy of"),
    ],
)
def test_a_copy_beside_a_run_is_listed_and_left_aside(results, name, why):
    write_run(results, run={"name": RUN, "seed": 0})
    before = store.scan(results).runs
    shutil.copytree(results.run_dir(RUN), results.root / "runs" / name)
    contents = store.scan(results)
    assert contents.runs == before
    (damage,) = contents.damaged
    assert name in str(damage.path) and why in str(damage)
    assert store.scan(results, whole=False).runs == before


@pytest.mark.parametrize("name", ["seed_0000.bak", "seed_00000", "seed_0000 2", "old"])
def test_a_copy_of_a_seed_is_listed_and_left_aside(results, name):
    write_run(results, run={"name": RUN, "seed": 0})
    shutil.copytree(results.seed_dir(RUN, 0), results.run_dir(RUN) / name)
    contents = store.scan(results)
    assert [run.seed for run in contents.runs] == results.seeds(RUN) == [0]
    assert [damage.path.name for damage in contents.damaged] == [name]


def test_a_copy_in_the_place_of_another_seed_is_not_that_seed(results):
    write_run(results, run={"name": RUN, "seed": 0})
    shutil.copytree(results.seed_dir(RUN, 0), results.seed_dir(RUN, 1))
    assert results.is_done(RUN, 0) and not results.is_done(RUN, 1)
    assert f"is a copy of {RUN} seed 0" in results.check_run(RUN, 1)


def test_files_of_a_desktop_are_no_runs_and_no_damage(filled):
    for folder in (filled.root / "runs", filled.run_dir(RUN)):
        (folder / ".DS_Store").write_bytes(b"")
    assert store.scan(filled).damaged == []


def test_scan_of_an_empty_folder(results):
    assert store.scan(results) == ([], {}, [])


# Derived files and user's JSON


def test_derived_files_are_written_where_they_are_named(results):
    assert results.write_json("metrics/x.json", {"a": 1}).read_text() == '{\n  "a": 1\n}\n'
    assert results.write_bytes("plots/x.png", b"png") == results.root / "plots" / "x.png"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": 1, "a": 2}', "a key occurs twice"),
        ("[1]", "no JSON object"),
        ("[" * 100_000, "no valid JSON"),
        ("\x00", "no valid JSON"),
    ],
)
def test_bad_json_is_refused(tmp_path, text, why):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamagedFile, match=why):
        files.load_json(tmp_path / "x.json")


def test_huge_json_is_refused_unread(tmp_path):
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(files.MAX_JSON_BYTES + 1)
    with pytest.raises(DamagedFile, match="are more than"):
        files.load_json(tmp_path / "x.json")


# One writer, killed at any moment

WRITER = f"""
import sys
import numpy as np
from jaxgen.results import lock, store
results = store.open_store(sys.argv[1])
with lock.locked(results):
    results.write_spec({RUN!r}, {SPEC!r})
    results.write_result(
        {RUN!r}, 0, {RESULT!r}, {{"reward": np.arange(3.0)}}, {PROVENANCE!r}, b"agent"
    )
    results.write_text("summary.txt", "summary " + sys.argv[2])
    if len(sys.argv) > 3:
        print("locked", flush=True)
        sys.stdin.read()
"""


def writer(root, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), *arguments],
        cwd=ROOT, env=os.environ | variables, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("uninterrupted")
    process = writer(root, "new")
    assert process.communicate(timeout=60) == ("", "")
    return files_of(root)


OTHERS = ("checkpoint.", "log.")
STORE_POINTS = [point for point in faults.WRITE_POINTS if not point.startswith(OTHERS)]


@pytest.mark.parametrize("point", STORE_POINTS)
def test_killed_at_any_write_point_a_second_run_ends_the_same(
    tmp_path, uninterrupted, point, monkeypatch
):
    process = writer(tmp_path, "new", JAXGEN_KILL_AT=point)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    for name, data in files_of(tmp_path).items():
        # What has its name is whole.
        assert files.TEMP_PREFIX in name or data == uninterrupted[name]
    results = open_store(tmp_path)
    with lock.locked(results):
        assert set(files_of(tmp_path)) <= set(uninterrupted)
        assert results.check_run(RUN, 0) in ("done", "missing")
    monkeypatch.setattr(sys, "argv", ["writer", str(tmp_path), "new"])
    exec(WRITER, {})
    assert files_of(tmp_path) == uninterrupted


@pytest.mark.parametrize("stage", ["before", "written", "replaced"])
def test_a_file_that_is_replaced_is_the_old_or_the_new_one(tmp_path, stage):
    results = open_store(tmp_path)
    write_run(results)
    results.write_text("summary.txt", "summary old")
    process = writer(tmp_path, "new", JAXGEN_KILL_AT=f"derived.{stage}")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    expected = "new" if stage == "replaced" else "old"
    assert (tmp_path / "summary.txt").read_text() == f"summary {expected}"


def test_a_second_process_is_refused_and_named_until_the_first_is_dead(tmp_path):
    process = writer(tmp_path, "new", "wait")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        results = open_store(tmp_path)
        message = rf"in use by another process \(pid {process.pid} on {socket.gethostname()}\)"
        with pytest.raises(StoreError, match=message), lock.locked(results):
            pass
    finally:
        process.kill()
        process.communicate(timeout=60)
    with lock.locked(results):
        pass


def test_the_lock_is_free_after_an_error(results):
    with pytest.raises(KeyError), lock.locked(results):
        raise KeyError
    with lock.locked(results):
        pass


def test_the_lock_removes_what_killed_writers_left(filled):
    before = files_of(filled.root)
    seed_dir = filled.seed_dir(RUN, 0)
    (seed_dir / ".tmp-1-result.json").write_text("{")
    (filled.root / "checkpoints" / ".tmp-group").mkdir(parents=True)
    (filled.root / "checkpoints" / ".tmp-group" / "part").write_text("")
    with lock.locked(filled):
        assert files_of(filled.root) == before
        assert not (filled.root / "checkpoints" / ".tmp-group").exists()


def test_a_failed_write_leaves_no_temporary_file(results, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        results.write_text("summary.txt", "text")
    assert set(files_of(results.root)) == {"store.json"}


def test_unknown_write_points_are_refused(monkeypatch):
    for wanted in ("nonsense", "spec.before:x"):
        monkeypatch.setenv(faults.VARIABLE, wanted)
        with pytest.raises(ValueError, match="is no write point; use .*spec.before"):
            faults.write_point("spec.before")


def test_a_write_point_counts_its_passages(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    monkeypatch.setattr(faults, "_passages", type(faults._passages)())
    monkeypatch.setenv(faults.VARIABLE, "spec.before:3")
    for expected in (0, 0, 1, 1):
        faults.write_point("spec.before")
        faults.write_point("spec.written")
        assert len(killed) == expected
    assert killed == [signal.SIGKILL]


def test_sealed_json_is_ordinary_json(filled):
    content = json.loads((filled.run_dir(RUN) / "spec.json").read_text())
    assert content["algorithm"] == "ppo"
    assert len(content["sha256"]) == 64

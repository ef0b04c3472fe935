"""Checkpoints: trees come back equal, and damage or a kill never goes unnoticed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.system import checkpoint, faults
from jaxgen.system.checkpoint import DamagedCheckpoint
from jaxgen.system.files import remove_unfinished

ROOT = Path(__file__).parents[2]
META = {"config": "0123abcd", "iteration": 7, "lanes": [["ppo", 0]]}


class Carry(NamedTuple):
    params: dict
    step: jax.Array
    rings: tuple
    empty: jax.Array


def make_tree():
    return Carry(
        params={"Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": np.zeros(3)}},
        step=jnp.int32(4),
        rings=(jnp.array([1, 2], jnp.uint32), [jnp.array([True]), jnp.ones(2, jnp.bfloat16)]),
        empty=jnp.zeros((0, 3), jnp.bfloat16),
    )


def assert_equal_trees(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One checkpoint for all tests that only read."""
    path = tmp_path_factory.mktemp("saved") / "group"
    checkpoint.save(path, make_tree(), META)
    return path


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of it to be damaged."""
    shutil.copytree(saved, tmp_path / "group")
    return tmp_path / "group"


def test_a_tree_comes_back_equal(saved):
    tree = make_tree()
    loaded, meta = checkpoint.load(saved, tree)
    assert_equal_trees(loaded, tree)
    assert meta == META == checkpoint.read_meta(saved)


def test_abstract_shapes_do_as_well(saved):
    abstract = jax.eval_shape(make_tree)
    # numpy's float64 leaf of the tree has no counterpart under eval_shape
    abstract.params["Dense_0"]["bias"] = jax.ShapeDtypeStruct((3,), np.float64)
    assert_equal_trees(checkpoint.load(saved, abstract)[0], make_tree())


def test_without_a_tree_the_keys_make_nested_dicts(saved):
    loaded, _ = checkpoint.load(saved)
    np.testing.assert_array_equal(loaded["params"]["Dense_0"]["kernel"], [[0, 1, 2], [3, 4, 5]])
    assert loaded["rings"]["1"]["1"].dtype == jnp.bfloat16
    assert loaded["empty"].shape == (0, 3)


def test_a_save_replaces_the_old_checkpoint_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "checkpoints" / "group"
    for iteration in (1, 2):
        checkpoint.save(path, {"x": jnp.full(2, float(iteration))}, {"iteration": iteration})
    loaded, meta = checkpoint.load(path)
    np.testing.assert_array_equal(loaded["x"], [2.0, 2.0])
    assert meta == {"iteration": 2}
    assert list(path.parent.iterdir()) == [path]


def test_a_tree_of_nothing_but_empty_arrays(tmp_path):
    tree = {"x": np.zeros((0,), np.int8)}
    checkpoint.save(tmp_path / "x", tree, {})
    assert_equal_trees(checkpoint.load(tmp_path / "x", tree)[0], tree)


def test_remove_and_exists(copied):
    copied.with_name(".previous-group").mkdir()
    assert checkpoint.exists(copied)
    checkpoint.remove(copied)
    assert not checkpoint.exists(copied)
    assert checkpoint.saved_in(copied.parent) == checkpoint.saved_in(copied) == []
    assert list(copied.parent.iterdir()) == []
    checkpoint.remove(copied)


def test_what_a_network_file_system_keeps_fails_nothing(copied, monkeypatch):
    """A file that is still open there stays in its folder under another name."""

    def refuse(*arguments, **more):
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(os, "rmdir", refuse)
    checkpoint.remove(copied)
    remove_unfinished(copied.parent)
    assert checkpoint.saved_in(copied.parent) == []


# Damage


def checkpoint_files(path):
    return [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]


def test_a_flipped_bit_a_truncation_or_a_missing_file_is_found_and_named(copied):
    assert len(checkpoint_files(copied)) > 8
    for name in checkpoint_files(copied):
        file = copied / name
        whole = file.read_bytes()
        damaged = [None, whole + b"x"]
        for offset in range(0, len(whole), 1 + len(whole) // 50):
            flipped = bytearray(whole)
            flipped[offset] ^= 1 << offset % 8
            damaged += [bytes(flipped), whole[:offset]]
        for data in damaged:
            file.unlink(missing_ok=True)
            if data is not None:
                file.write_bytes(data)
            with pytest.raises(DamagedCheckpoint) as error:
                checkpoint.read_meta(copied)
            assert error.value.path == file
        file.write_bytes(whole)
    assert checkpoint.read_meta(copied) == META


def test_load_checks_as_well(copied):
    largest = max(checkpoint_files(copied), key=lambda name: (copied / name).stat().st_size)
    data = bytearray((copied / largest).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / largest).write_bytes(data)
    with pytest.raises(DamagedCheckpoint, match=r"does not match its sha256|sha256|JSON"):
        checkpoint.load(copied, make_tree())


def test_a_missing_checkpoint_is_named(tmp_path):
    for read in (checkpoint.load, checkpoint.read_meta):
        with pytest.raises(DamagedCheckpoint, match="nothing: there is no checkpoint"):
            read(tmp_path / "nothing")
    assert not checkpoint.exists(tmp_path / "nothing")


def test_another_schema_is_refused(copied, monkeypatch):
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    with pytest.raises(DamagedCheckpoint, match="has schema 1, not 2"):
        checkpoint.read_meta(copied)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"step": np.zeros((), np.float32)}, r"leaf step is int32\[\], not float32\[\]"),
        ({"step": np.zeros(2, np.int32)}, r"leaf step is int32\[\], not int32\[2\]"),
        ({"params": {}}, r"leaf params\.Dense_0\.bias is not expected"),
        ({"step": {"more": np.zeros(())}}, r"leaf step is not expected"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused(saved, change, why):
    with pytest.raises(DamagedCheckpoint, match=why):
        checkpoint.load(saved, make_tree()._replace(**change))


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({"a": 1.0}, "leaf a is of type float; make it an array"),
        ({"a": {"b": jax.random.key(0)}}, r"leaf a\.b is a typed key"),
        ({"a": np.array([None])}, "leaf a holds Python objects"),
        ({"a.b": np.zeros(1)}, r"key 'a\.b' cannot be stored"),
        (np.zeros(1), "key '' cannot be stored"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, tree, why):
    with pytest.raises(ValueError, match=why):
        checkpoint.save(tmp_path / "x", tree, {})
    assert list(tmp_path.iterdir()) == []


def test_meta_without_numbers_is_refused_and_the_old_checkpoint_stays(copied):
    with pytest.raises(ValueError, match=r"meta\.loss is nan"):
        checkpoint.save(copied, make_tree(), {"loss": float("nan")})
    assert checkpoint.read_meta(copied) == META
    assert list(copied.parent.iterdir()) == [copied]


# Kills

# Orbax takes seconds to import; forked before JAX starts, each child has a JAX of its own.
SAVERS = """
import os, sys
import numpy as np
from orbax.checkpoint import v1
from jaxgen.system import checkpoint, faults
for point in sys.argv[2:]:
    child = os.fork()
    if not child:
        os.environ[faults.VARIABLE] = point + ":2"
        for iteration in (1, 2):
            path = os.path.join(sys.argv[1], point, "group")
            checkpoint.save(path, {"x": np.full(3, iteration)}, {"iteration": iteration})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
CHECKPOINT_POINTS = [p for p in faults.WRITE_POINTS if p.startswith("checkpoint.")]


def test_killed_at_any_write_point_the_old_or_the_new_checkpoint_loads(tmp_path):
    savers = subprocess.run(
        [sys.executable, "-c", SAVERS, str(tmp_path), *CHECKPOINT_POINTS],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )
    assert savers.stdout.split() == [str(-signal.SIGKILL)] * len(CHECKPOINT_POINTS), savers.stderr
    for point in CHECKPOINT_POINTS:
        path = tmp_path / point / "group"
        loaded, meta = checkpoint.load(path)
        assert meta["iteration"] == (2 if point == "checkpoint.placed" else 1), point
        np.testing.assert_array_equal(loaded["x"], np.full(3, meta["iteration"]))
        assert path.exists() == (point != "checkpoint.moved")
        assert checkpoint.saved_in(path.parent) == [path]
        assert checkpoint.read_meta(path) == meta
        checkpoint.save(path, {"x": np.full(3, 3)}, {"iteration": 3})
        assert checkpoint.read_meta(path) == {"iteration": 3}
        remove_unfinished(path.parent)
        assert list(path.parent.iterdir()) == [path]


# What is at the path


def test_a_checkpoint_of_the_same_kind_is_replaced_even_if_damaged(copied):
    checkpoint.save(copied, {"leaf": np.arange(3)}, META)
    (copied / "manifest.json").write_text("{")
    checkpoint.save(copied, {"leaf": np.arange(4)}, META | {"iteration": 8})
    tree, meta = checkpoint.load(copied)
    assert len(tree["leaf"]) == 4 and meta["iteration"] == 8


def put_thesis(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "thesis.txt").write_text("years")


def put_agent(path: Path) -> None:
    checkpoint.save(path, {"leaf": np.arange(3)}, {"kind": "agent"})


def put_note_beside_the_arrays(path: Path) -> None:
    put_agent(path)
    (path / "note.txt").write_text("the best one")


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (put_thesis, "holds thesis.txt and stays"),
        (lambda path: path.write_text("x"), "is a file"),
        (put_agent, "holds agent, no such"),
        (put_note_beside_the_arrays, "holds note.txt and stays"),
        (lambda path: (path / "runs").mkdir(parents=True), "holds runs and stays"),
    ],
)
def test_what_is_something_else_stays(tmp_path, put, message):
    path = tmp_path / "mine"
    put(path)
    before = sorted((file, file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())
    with pytest.raises(ValueError, match=f"{message}.*name a folder that is new"):
        checkpoint.save(path, {"leaf": np.arange(3)}, META)
    after = sorted((file, file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())
    assert before == after

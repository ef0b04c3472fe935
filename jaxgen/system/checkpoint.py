"""Pytrees of arrays on disk, through Orbax, checked on the way back.

A checkpoint is a folder: ``arrays/`` is what Orbax writes, a nested dict of numpy arrays by the
names of the tree's keys, and ``manifest.json`` holds the caller's ``meta``, the name, dtype and
shape of every leaf, and the size and SHA-256 of every file. Orbax alone restores a flipped bit
and casts another dtype without a word; here both are errors.

Saving is synchronous and atomic: after a crash at any moment either the old checkpoint or the
new one loads. Orbax and JAX are imported when first needed, because that takes seconds.
"""

import errno
import hashlib
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.system.errors import BadInput
from jaxgen.system.faults import write_point
from jaxgen.system.files import DamagedFile, load_sealed, seal, sync, temporary

SCHEMA = 1
"""Version of the layout of a checkpoint."""

PyTree = Any
PREVIOUS_PREFIX = ".previous-"
"""Begins the name of the old checkpoint while a new one takes its place."""

Leaves = dict[tuple[str, ...], np.ndarray]
"""The leaves of a tree by the names of the keys that lead to them."""


class DamagedCheckpoint(Exception):
    """A checkpoint is missing, is not what was written, or does not fit the tree it is for."""

    def __init__(self, path: Path, why: str):
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


def save(path: str | Path, tree: PyTree, meta: Mapping[str, Any]) -> None:
    """Write ``tree`` to the folder ``path``, replacing a checkpoint of the same kind.

    Args:
        path: the checkpoint's folder; its parents are made.
        tree: containers of numpy or JAX arrays; no typed PRNG keys.
        meta: JSON content that `read_meta` and `load` give back; ``kind`` says what it is of.

    Raises:
        ValueError: a leaf or a key cannot be stored, ``meta`` is not JSON, or what is at ``path``
            is something else, which stays.
        OSError: the disk is full or cannot be written; an old checkpoint is still there.
    """
    path = Path(path).absolute()
    _check_replaceable(path, meta.get("kind"))
    leaves = _named_leaves(tree)
    temp, previous = temporary(path), _previous(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_point("checkpoint.before")
    try:
        _write_folder(temp, leaves, meta)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    write_point("checkpoint.manifest")
    if path.exists():
        # Only now: where path is missing, previous may be the one that is whole.
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(path, previous)
    write_point("checkpoint.moved")
    os.rename(temp, path)
    write_point("checkpoint.placed")
    sync(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def load(path: str | Path, like: PyTree = None) -> tuple[PyTree, dict[str, Any]]:
    """Read a checkpoint -> tree of numpy arrays, meta.

    Args:
        path: the checkpoint's folder.
        like: a tree of the same structure, dtypes and shapes (arrays, or what `jax.eval_shape`
            gives), of which the result has the containers; None: nested dicts by key.

    Raises:
        DamagedCheckpoint: it is missing or damaged, or does not fit ``like``.
    """
    folder, manifest = _verify(Path(path).absolute())
    leaves = _read_arrays(folder, manifest)
    if like is None:
        return _nest(leaves), manifest["meta"]
    return _fit(folder, leaves, like), manifest["meta"]


def fit(path: str | Path, nested: PyTree, like: PyTree) -> PyTree:
    """Give a part of what `load` nested the containers of ``like``.

    Raises:
        DamagedCheckpoint: names, dtypes or shapes of the leaves differ.
    """
    return _fit(Path(path).absolute(), _named_leaves(nested), like)


def peek(path: str | Path) -> dict[str, Any]:
    """The ``meta`` of a checkpoint by its manifest; whether all the rest is whole `load` says.

    Raises:
        DamagedCheckpoint: it is missing, or its manifest is damaged.
    """
    return _manifest(Path(path).absolute())[1]["meta"]


def read_meta(path: str | Path) -> dict[str, Any]:
    """The ``meta`` of a checkpoint, all of whose files are verified; no array is loaded.

    Raises:
        DamagedCheckpoint: it is missing or damaged.
    """
    return _verify(Path(path).absolute())[1]["meta"]


def exists(path: str | Path) -> bool:
    """Whether there is a checkpoint, whole or not."""
    path = Path(path).absolute()
    return path.exists() or _previous(path).exists()


def saved_in(folder: str | Path) -> list[Path]:
    """Paths of the checkpoints in a folder, in the order of their names, whole or not."""
    folder = Path(folder).absolute()
    if not folder.is_dir():
        return []
    # Killed, or just now, between the two renames of a save there is the old one alone.
    names = {entry.name.removeprefix(PREVIOUS_PREFIX) for entry in folder.iterdir()}
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def remove(path: str | Path) -> None:
    """Remove a checkpoint, if there is one, so that no crash leaves a part of it."""
    path = Path(path).absolute()
    shutil.rmtree(_previous(path), ignore_errors=True)
    if path.exists():
        temp = temporary(path)
        os.rename(path, temp)
        sync(path.parent)
        # A network file system keeps what is still open under another name.
        shutil.rmtree(temp, ignore_errors=True)


def _check_replaceable(path: Path, kind: Any) -> None:
    """Raise BadInput where something else is than a checkpoint of a kind, whole or damaged."""
    if not path.exists():
        return
    if not path.is_dir():
        raise BadInput(f"{path} is a file; name a folder that is new")
    others = {entry.name for entry in path.iterdir()} - {"arrays", "manifest.json"}
    if others:
        raise BadInput(f"{path} holds {min(others)} and stays as it is; name a folder that is new")
    try:
        known = peek(path).get("kind")
    except DamagedCheckpoint:
        return
    if known != kind:
        raise BadInput(
            f"{path} holds {known or 'a checkpoint of training'}, no {kind or 'such'}, so it stays "
            "as it is; name a folder that is new"
        )


def _previous(path: Path) -> Path:
    """The path of the old checkpoint for the moment between two renames."""
    return path.with_name(PREVIOUS_PREFIX + path.name)


def _write_folder(folder: Path, leaves: Leaves, meta: Mapping[str, Any]) -> None:
    folder.mkdir()
    filled = {name: leaf for name, leaf in leaves.items() if leaf.size}
    if filled:
        from orbax.checkpoint import v1 as orbax

        # Orbax refuses arrays of size zero; the manifest alone describes them.
        try:
            orbax.save(str(folder / "arrays"), _nest(filled))
        except ValueError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "No space left" not in str(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
    write_point("checkpoint.arrays")
    manifest = {
        "schema": SCHEMA,
        "meta": dict(meta),
        "leaves": [
            {"name": list(name), "dtype": str(leaf.dtype), "shape": list(leaf.shape)}
            for name, leaf in leaves.items()
        ],
        "files": {
            file.relative_to(folder).as_posix(): _fingerprint(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
    }
    (folder / "manifest.json").write_bytes(seal(manifest))
    for entry in (*folder.rglob("*"), folder):
        sync(entry)


def _manifest(path: Path) -> tuple[Path, dict[str, Any]]:
    """The folder that holds the checkpoint, and its manifest."""
    folder = path if path.exists() or not _previous(path).exists() else _previous(path)
    if not folder.is_dir():
        raise DamagedCheckpoint(folder, "there is no checkpoint")
    try:
        manifest = load_sealed(folder / "manifest.json")
    except DamagedFile as damage:
        raise DamagedCheckpoint(damage.path, damage.why) from damage
    if manifest.get("schema") != SCHEMA:
        raise DamagedCheckpoint(folder, f"it has schema {manifest.get('schema')!r}, not {SCHEMA}")
    return folder, manifest


def _verify(path: Path) -> tuple[Path, dict[str, Any]]:
    """Read the manifest as `_manifest` does, and check every file."""
    folder, manifest = _manifest(path)
    for name, expected in manifest["files"].items():
        try:
            actual = _fingerprint(folder / name)
        except OSError as error:
            raise DamagedCheckpoint(folder / name, error.strerror or str(error)) from error
        if actual != expected:
            raise DamagedCheckpoint(folder / name, "its content does not match its sha256")
    return folder, manifest


def _read_arrays(folder: Path, manifest: dict[str, Any]) -> Leaves:
    nested: Any = {}
    if manifest["files"]:
        from orbax.checkpoint import v1 as orbax

        nested = orbax.load(str(folder / "arrays"))
    leaves = {}
    for entry in manifest["leaves"]:
        name, shape = tuple(entry["name"]), tuple(entry["shape"])
        if math.prod(shape):
            leaf = np.asarray(_descend(nested, name))
        else:
            leaf = np.zeros(shape, np.dtype(entry["dtype"]))
        if str(leaf.dtype) != entry["dtype"] or leaf.shape != shape:
            raise DamagedCheckpoint(
                folder / "arrays",
                f"{'.'.join(name)} came back as {_describe(leaf)}, "
                f"not as {entry['dtype']}{list(shape)}",
            )
        leaves[name] = leaf
    return leaves


def _fit(folder: Path, leaves: Leaves, like: PyTree) -> PyTree:
    import jax

    wanted = _names(like)
    for name in sorted(wanted.keys() ^ leaves.keys()):
        state = "missing" if name in wanted else "not expected"
        raise DamagedCheckpoint(folder, f"leaf {'.'.join(name)} is {state}")
    for name, leaf in wanted.items():
        if leaf.dtype != leaves[name].dtype or tuple(leaf.shape) != leaves[name].shape:
            raise DamagedCheckpoint(
                folder,
                f"leaf {'.'.join(name)} is {_describe(leaves[name])}, not {_describe(leaf)}",
            )
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted])


def _named_leaves(tree: PyTree) -> Leaves:
    import jax

    leaves = {}
    for name, leaf in _names(tree).items():
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(f"leaf {'.'.join(name)} is a typed key; store jax.random.key_data")
        leaves[name] = np.asarray(leaf)
        if leaves[name].dtype.hasobject:
            raise ValueError(f"leaf {'.'.join(name)} holds Python objects; use numbers")
    return leaves


def _names(tree: PyTree) -> dict[tuple[str, ...], Any]:
    """The leaves of a tree by the names of the keys that lead to them, in the tree's order."""
    import jax

    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
        if not name or name in named or any(not k or "." in k or "/" in k for k in name):
            raise ValueError(
                f"key {'.'.join(name)!r} cannot be stored; leaves need a container, and keys that "
                "differ as text and hold neither '.' nor '/'"
            )
        if not hasattr(leaf, "dtype"):
            raise ValueError(
                f"leaf {'.'.join(name)} is of type {type(leaf).__name__}; make it an array"
            )
        named[name] = leaf
    return named


def _nest(leaves: Leaves) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, leaf in leaves.items():
        node = nested
        for key in name[:-1]:
            node = node.setdefault(key, {})
        node[name[-1]] = leaf
    return nested


def _descend(nested: Any, name: tuple[str, ...]) -> Any:
    for key in name:
        nested = nested[key]
    return nested


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _fingerprint(file: Path) -> dict[str, Any]:
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}

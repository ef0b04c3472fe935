"""Arrays in one file: an npz whose bytes follow from its content, and one that describes itself.

A described archive holds ``meta`` beside its arrays: sealed JSON, as uint8, with what the caller
says of them and the SHA-256 of each. Nothing in it is pickled; ``numpy.load`` reads it anywhere.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, check_name, seal, unseal

META = "meta"
"""Name of the entry that describes the others; it comes first."""

AGENT = "jaxgen agent"
"""The ``kind`` of an agent's archive."""
AGENT_FILE = "agent.npz"
"""The name of the file in a seed's folder that holds its agent."""

Arrays = dict[str, np.ndarray]


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An npz of the same bytes for the same arrays: sorted, not compressed, without times.

    Raises:
        ValueError: an array is not of numbers.
    """
    return _pack({name: arrays[name] for name in sorted(arrays)})


def pack_described(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    """A described archive.

    Args:
        arrays: of numbers, by name.
        meta: JSON content; ``kind`` says what it is of.

    Raises:
        ValueError: an array is not of numbers, or ``meta`` is not JSON.
    """
    digests = {name: _digest(np.asarray(values)) for name, values in arrays.items()}
    sealed = seal({"arrays": digests, "meta": dict(meta)})
    described = {META: np.frombuffer(sealed, np.uint8)}
    return _pack(described | {name: arrays[name] for name in sorted(arrays)})


def load_described(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the ``meta`` of a described archive.

    Raises:
        DamagedFile: it is missing, no described archive, or not what was written.
    """
    try:
        data = path.read_bytes()
        if not data.startswith(b"PK"):
            raise DamagedFile(path, "it is no npz file")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        described = unseal(arrays.pop(META).tobytes(), path)
        digests, meta = described["arrays"], described["meta"]
    except DamagedFile:
        raise
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error)) from error
    except Exception as error:
        # What reads zip archives, headers and JSON raises a dozen kinds.
        raise DamagedFile(path, f"it is no archive of jaxgen, or damaged ({error})") from error
    if {name: _digest(values) for name, values in arrays.items()} != digests:
        raise DamagedFile(path, "its arrays do not match their sha256")
    return arrays, meta


def check_replaceable(path: Path, kind: str) -> None:
    """Raise BadInput where something else is than a described archive of a kind, whole or damaged.

    Args:
        path: a file that is about to be written.
        kind: of what will be written there.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder and stays as it is; name a file that is new")
    try:
        known = load_described(path)[1].get("kind")
    except DamagedFile:
        known = kind if _begins_as_ours(path) else "something else"
    if known != kind:
        raise BadInput(f"{path} holds {known} and stays as it is; name a file that is new")


def _begins_as_ours(path: Path) -> bool:
    """Whether there is nothing in a file, or what once was a described archive."""
    try:
        with open(path, "rb") as file:
            start = file.read(256)
    except FileNotFoundError:
        return True
    return not start or (start.startswith(b"PK") and f"{META}.npy".encode() in start)


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, given in arrays.items():
            values = np.asarray(given)
            if values.dtype.kind not in "biuf":
                raise ValueError(f"array {name!r} has dtype {values.dtype}; use numbers")
            # A metric of a group of parameters is named with it: actor/loss.
            entry = zipfile.ZipInfo("/".join(map(check_name, name.split("/"))) + ".npy")
            entry.create_system = 3
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _digest(values: np.ndarray) -> str:
    """SHA-256 of an array's kind, shape and content."""
    head = json.dumps([values.dtype.str, list(values.shape)]).encode()
    return hashlib.sha256(head + np.ascontiguousarray(values).tobytes()).hexdigest()

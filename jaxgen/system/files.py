"""Files that appear whole or not at all, and JSON that carries its own SHA-256."""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.system.faults import write_point

SCHEMA = 1
"""Version of the layout of the folder and of its files."""

MAX_JSON_BYTES = 64 * 2**20
"""Larger JSON files are refused unread."""
TEMP_PREFIX = ".tmp-"
"""Files and folders that begin so are unfinished and may be removed under the lock."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What `OSError.errno` says of a disk that is full."""

MAX_NAME = 200
"""Letters of a name: file systems allow 255 bytes, and temporary files add some."""
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+@=-]{{0,{MAX_NAME - 1}}}")


class DamagedFile(Exception):
    """A file is not what was written: truncated, altered, or not readable as its kind."""

    def __init__(self, path: Path, why: str):
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


def canonical_json(obj: Any) -> str:
    """Write ``obj`` as JSON, the same bytes for the same content on every machine.

    Numpy and JAX scalars and arrays become numbers and lists.

    Raises:
        ValueError: a NaN or infinity, a key that is no string, or a value JSON does not know;
            the message names the path of keys to it.
    """
    return json.dumps(plain(obj, ""), sort_keys=True, allow_nan=False, indent=2) + "\n"


def content_hash(obj: Any) -> str:
    """Eight hexadecimal digits that identify the content of ``obj``."""
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()[:8]


def check_name(name: str) -> str:
    """Return ``name`` if it can be a file's name anywhere, and no path.

    Raises:
        ValueError: it is not 1 to `MAX_NAME` letters, digits, ``.``, ``_``, ``+``, ``@``, ``=``
            or ``-`` that begin with a letter or a digit, or holds ``..``.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"{name!r} is not allowed as a name; use 1 to {MAX_NAME} letters, digits, '.', '_', "
            "'+', '@', '=' or '-', beginning with a letter or a digit, without '..' and without a "
            "path"
        )
    return name


def seal(obj: Mapping[str, Any]) -> bytes:
    """Canonical JSON bytes of a mapping with its SHA-256 added under ``sha256``."""
    if "sha256" in obj:
        raise ValueError("the key 'sha256' belongs to the seal; use another one")
    digest = hashlib.sha256(canonical_json(obj).encode()).hexdigest()
    return canonical_json({**obj, "sha256": digest}).encode()


def load_sealed(path: Path) -> dict[str, Any]:
    """Read what `seal` wrote, without its ``sha256``.

    Raises:
        DamagedFile: it is missing, too large, no JSON, or any byte differs from what was written.
    """
    return unseal(_read(path), path)


def unseal(data: bytes, path: Path) -> dict[str, Any]:
    """The mapping that `seal` made bytes of.

    Args:
        data: the bytes.
        path: the file in which they were found, for errors.

    Raises:
        DamagedFile: they are no JSON, or any of them differs from what was written.
    """
    content = _parse(data, path)
    digest = content.pop("sha256", None)
    if digest is None:
        raise DamagedFile(path, "it carries no sha256")
    try:
        intact = seal(content) == data
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    if not intact:
        raise DamagedFile(path, "its content does not match its sha256")
    return content


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that has no seal, such as one a user wrote.

    Raises:
        DamagedFile: it is missing, too large, no JSON object, or holds NaN or a key twice.
    """
    return _parse(_read(path), path)


def remove_unfinished(root: Path) -> None:
    """Remove the temporary files and folders of killed writers below ``root``."""
    for folder, folders, files in os.walk(root):
        for name in files:
            if name.startswith(TEMP_PREFIX):
                Path(folder, name).unlink(missing_ok=True)
        for name in [name for name in folders if name.startswith(TEMP_PREFIX)]:
            # A network file system keeps what is still open under another name.
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            folders.remove(name)


def temporary(path: Path) -> Path:
    """A name beside ``path`` that no other process has: process ids differ on one machine only."""
    return path.with_name(f"{TEMP_PREFIX}{secrets.token_hex(4)}-{path.name}")


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def plain(obj: Any, where: str) -> Any:
    """``obj`` as what JSON knows; ``where`` is the path of keys to it."""
    if hasattr(obj, "tolist"):
        obj = obj.tolist()
    if isinstance(obj, float) and not math.isfinite(obj):
        raise ValueError(f"{where or 'the value'} is {obj}; write null where there is no number")
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise ValueError(f"key {key!r} of {where or 'the value'} is no string")
        return {key: plain(value, f"{where}.{key}".lstrip(".")) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [plain(value, f"{where}[{index}]") for index, value in enumerate(obj)]
    raise ValueError(f"{where or 'the value'} is of type {type(obj).__name__}, which JSON has not")


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise DamagedFile(path, f"{size} bytes are more than the {MAX_JSON_BYTES} allowed")
        return path.read_bytes()
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error)) from error


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(
            data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
        )
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it is no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DamagedFile(path, "it is no JSON object")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content


def write_bytes(path: Path, data: bytes, kind: str = "derived") -> None:
    """Replace ``path`` so that after a crash it is either the old file or the new one.

    Args:
        path: the file; its folder is made if it is missing.
        data: its new content.
        kind: names the write points that are passed, see `jaxgen.system.faults`.
    """
    _make_folder(path.parent)
    write_point(f"{kind}.before")
    temp = temporary(path)
    try:
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        write_point(f"{kind}.written")
        os.replace(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    write_point(f"{kind}.replaced")
    sync(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents last a crash."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)

"""The cache of compiled programs: private, sealed, and never needed.

Importing this module does not import JAX.
"""

import atexit
import hashlib
import json
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

from jaxgen.system.options import set_variable

_SUMS = "sums.json"
_REMEDY = "set XDG_CACHE_HOME to a folder of your own"

_sealed_cache: Path | None = None


def configure_cache(cache_dir: Path | Literal["auto"] | None, machine: str) -> Path | None:
    """Give JAX a cache of compiled programs; returns its folder, None: there is none.

    Args:
        cache_dir: ``auto``: a private folder of the user's cache, None: no cache.
            JAX_COMPILATION_CACHE_DIR goes before it.
        machine: what compiled code depends on. Code of one CPU can be illegal on another, and homes
            are shared over machines.
    """
    global _sealed_cache
    if known := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(known)
    if cache_dir is None:
        return None
    try:
        folder = _user_cache() if cache_dir == "auto" else Path(cache_dir)
        folder = folder / f"xla-{hashlib.sha256(machine.encode()).hexdigest()[:8]}"
        _make_private(folder)
        _remove_unsealed(folder)
    # RuntimeError: there is no home.
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"no compilation cache ({error}): programs are compiled anew each time; {_REMEDY}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    set_variable("JAX_COMPILATION_CACHE_DIR", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        set_variable("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    # JAX has one for each program; `seal_cache` says it once.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if _sealed_cache is None:
        atexit.register(_seal_quietly)
    _sealed_cache = folder
    return folder


def seal_cache() -> None:
    """Record what the compilation cache holds, so that the next process trusts it.

    JAX does not write the cache atomically: an entry torn by a kill would stay, and be
    complained about, for ever. What was never recorded, or has changed, is removed at the next
    `configure_cache`. Called at exit; worth a call after a long compilation. Where it cannot be
    written, one warning says so, and no other attempt is made.
    """
    global _sealed_cache
    try:
        _seal()
    except OSError as error:
        warnings.warn(
            f"the compilation cache cannot be written ({error}): some programs will be compiled "
            f"anew; make room, or {_REMEDY}",
            RuntimeWarning,
            stacklevel=2,
        )
        _sealed_cache = None


def _seal() -> None:
    if _sealed_cache is None:
        return
    # Somebody may have cleaned up.
    _make_private(_sealed_cache)
    temp = _sealed_cache / f"{_SUMS}.{os.getpid()}"
    try:
        temp.write_text(json.dumps(_cache_sums(_sealed_cache), sort_keys=True))
        os.replace(temp, _sealed_cache / _SUMS)
    except OSError:
        temp.unlink(missing_ok=True)
        raise


def _seal_quietly() -> None:
    """Seal the cache at exit; errors are dropped, as no process is left to be told."""
    with suppress(OSError):
        _seal()


def _user_cache() -> Path:
    """The per-user cache folder; a relative XDG_CACHE_HOME is invalid by its specification."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "jaxgen"


def _make_private(folder: Path) -> None:
    """Make a folder only its owner can change: what lies in it is run as code.

    Raises:
        OSError: it cannot be made, or belongs to somebody else.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)


def _cache_sums(folder: Path) -> dict[str, str]:
    sums = {}
    for entry in folder.glob("*-cache"):
        # Another process may have removed it.
        with suppress(FileNotFoundError):
            sums[entry.name] = hashlib.sha256(entry.read_bytes()).hexdigest()
    return sums


def _remove_unsealed(folder: Path) -> None:
    try:
        known = json.loads((folder / _SUMS).read_text())
    except (OSError, ValueError):
        known = {}
    for name, digest in _cache_sums(folder).items():
        if not isinstance(known, dict) or known.get(name) != digest:
            (folder / name).unlink(missing_ok=True)

"""The cache of compiled programs is a convenience: what is wrong with it stops nothing."""

import errno
import json
import os
import pwd
import shutil
import warnings
from pathlib import Path

import pytest

from jaxgen.system import compilation


@pytest.fixture
def no_cache(monkeypatch):
    """As in a process that has none yet; JAX is not told of what is made here."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(compilation, "set_variable", lambda *words: None)
    monkeypatch.setattr(compilation, "_sealed_cache", None)
    monkeypatch.setattr(compilation.atexit, "register", lambda function: None)


@pytest.fixture
def folder(no_cache, tmp_path) -> Path:
    """A cache with a program."""
    folder = compilation.configure_cache(tmp_path / "cache", "machine")
    assert folder is not None
    (folder / "program-cache").write_bytes(b"code")
    return folder


def sums(folder: Path) -> dict[str, str]:
    return json.loads((folder / "sums.json").read_text())


def test_a_cache_is_sealed(folder):
    compilation.seal_cache()
    assert sums(folder).keys() == {"program-cache"}


def test_a_cache_that_was_cleaned_up_is_made_anew(folder):
    shutil.rmtree(folder.parent)
    compilation.seal_cache()
    assert sums(folder) == {}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE])
def test_a_cache_that_cannot_be_written_is_one_warning(folder, monkeypatch, number):
    def refuse(path, text):
        path.touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.warns(RuntimeWarning, match="the compilation cache cannot be written .*make room"):
        compilation.seal_cache()
    # No second warning, which would be an error here, and nothing half written.
    compilation.seal_cache()
    compilation._seal_quietly()
    assert [file.name for file in folder.iterdir()] == ["program-cache"]


def test_programs_that_jax_cannot_write_are_not_said_one_by_one(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compilation._sealed_cache = None
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        compilation.configure_cache(folder.parent, "machine")
        warnings.warn("Error writing persistent compilation cache entry for 'x'", stacklevel=1)
        warnings.warn("Error reading persistent compilation cache entry for 'x'", stacklevel=1)
    assert not caught


def test_without_a_home_there_is_no_cache(no_cache, monkeypatch):
    """A user id that the system does not know, as in containers."""
    def unknown(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.warns(RuntimeWarning, match="no compilation cache .*home directory.*XDG_CACHE_"):
        assert compilation.configure_cache("auto", "machine") is None


def test_a_home_that_only_reads_is_no_cache(no_cache, monkeypatch):
    def refuse(path, *arguments, **more):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.warns(RuntimeWarning, match="no compilation cache .*Read-only file system"):
        assert compilation.configure_cache("auto", "machine") is None

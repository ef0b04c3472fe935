"""Locks: file systems that have none, folders of several users."""

import errno
import fcntl
import os
import stat

import pytest

from experiments import matrix
from jaxgen.results.lock import StoreError, in_use, locked
from jaxgen.results.store import open_store
from jaxgen.running.workers.status import status_text


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_file_system_without_locks_is_said_in_one_line(store, no_locks, capsys):
    with pytest.raises(StoreError, match=r"out has no locks .No locks available.*give a folder"):
        locked(store).__enter__()
    words = ["--analyze", "--no-plots", "--out", str(store.root)]
    assert matrix.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_status_of_a_folder_without_locks_is_told(store, no_locks):
    with locked_file(store):
        assert "cannot be told from" in (text := status_text(store))
        assert ".lock (No locks available)" in text


def locked_file(store):
    (store.root / ".lock").touch()
    return open(store.root / ".lock")


@pytest.fixture
def shared_mask():
    before = os.umask(0o002)
    yield
    os.umask(before)


def test_files_that_others_write_too_have_the_rights_that_the_umask_leaves(store, shared_mask):
    with locked(store):
        assert stat.S_IMODE((store.root / ".lock").stat().st_mode) == 0o664


def test_a_lock_of_another_user_is_named_with_its_owner(store, monkeypatch):
    (store.root / ".lock").touch()
    os.chown(store.root / ".lock", 54321, -1)

    def refuse(path, *arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match=r"\.lock is a file of user 54321 that this process may"):
        locked(store).__enter__()


def test_a_lock_that_is_free_is_not_in_use(store):
    with locked(store):
        assert in_use(store)
    assert not in_use(store)

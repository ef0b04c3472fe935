"""The lock of a results folder: exclusive, or shared by writers of separate files."""

import errno
import fcntl
import os
import pwd
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jaxgen.system.errors import BadInput
from jaxgen.system.files import remove_unfinished

if TYPE_CHECKING:
    from jaxgen.results.store import Store


class StoreError(BadInput):
    """The results folder cannot be used as asked; the message says why and what to do."""


class InUse(StoreError):
    """Another process holds the folder's lock."""


SHARING_SECONDS = 10.0
"""Seconds that a shared lock waits for an exclusive one that is held briefly."""


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
"""What `OSError.errno` says of a file system without locks."""


def _lock(descriptor: int, shared: bool, patience: float) -> None:
    """Take the lock, or raise BlockingIOError after so many seconds of patience."""
    kind, until = fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)


class Lock:
    """A held lock of a results folder; the kernel frees it when the process ends, however it ends.

    The process that holds it alone may do everything. Of several that share it, each writes only
    its own files. The file names the holder, for processes that find it held.
    """

    def __init__(self, root: Path, descriptor: int):
        self._root, self._descriptor = root, descriptor

    def take(self, shared: bool, patience: float) -> None:
        """Hold it; InUse if others hold it for longer than the patience, in seconds.

        It is let go first, so that for a moment it may be free: network file systems do not change
        a lock from shared to exclusive in one step.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            _lock(self._descriptor, shared, patience)
        except BlockingIOError:
            raise InUse(
                f"{self._root} is in use by {self._holder()}; "
                "wait until it ends, or give another folder"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise StoreError(
                f"the file system of {self._root} has no locks ({error.strerror}), so that two "
                "processes could write over each other; give a folder on another one"
            ) from error
        if not shared:
            self._say(f"another process ({_own_name()})")

    def share(self) -> None:
        """Share it from now on; InUse if a process that wants it alone was faster."""
        self._say(f"workers (started by {_own_name()})")
        self.take(shared=True, patience=SHARING_SECONDS)

    def alone(self) -> bool:
        """Take it alone if no other process holds it; if that fails, it is not held at all."""
        try:
            self.take(shared=False, patience=0.0)
        except InUse:
            return False
        return True

    def _say(self, holder: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder.encode(), 0)

    def _holder(self) -> str:
        text = os.pread(self._descriptor, 200, 0).decode("utf-8", "replace").strip()
        return text or "another process"


def _own_name() -> str:
    return f"pid {os.getpid()} on {socket.gethostname()}"


@contextmanager
def locked(store: "Store", shared: bool = False, patience: float | None = None) -> Iterator[Lock]:
    """Hold the folder for writing; a process alone removes the unfinished files of killed ones.

    Args:
        store: the folder.
        shared: hold it together with others that share it.
        patience: seconds to wait for processes that hold it; None: `SHARING_SECONDS` for a shared
            lock, 0 for an exclusive one.

    Raises:
        InUse: another process holds it; the message names it.
        StoreError: the lock is a file of another user, or its file system has none.
    """
    descriptor = _open(store.root / ".lock")
    try:
        lock = Lock(store.root, descriptor)
        if patience is None:
            patience = SHARING_SECONDS if shared else 0.0
        lock.take(shared, patience)
        if not shared:
            remove_unfinished(store.root)
        yield lock
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """A descriptor of a lock's file, which is made with the rights that the umask leaves."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError as error:
        raise StoreError(
            f"{path} is a file of {_owner(path)} that this process may not write; ask for chmod "
            "g+rw of it and a umask of 002, or give another folder"
        ) from error


def _owner(path: Path) -> str:
    """The name of a file's owner; a number where the system does not know it."""
    try:
        number = path.stat().st_uid
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
    except OSError:
        return "another user"


def in_use(store: "Store") -> bool:
    """Whether a process holds the folder's lock."""
    path = store.root / ".lock"
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
    return False

"""Commits of this repository side by side: their checkouts, and studies run in each of them.

Of a commit only what stays the same from one to the next is relied on: the command line of
``experiments/matrix.py`` and the files of a results folder.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKING_TREE = "working tree"
"""The name of this checkout as it is, beside those of commits."""

_OUTER = ("JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS", "XLA_FLAGS", "PYTHONHOME")


class NotRun(RuntimeError):
    """A commit cannot be checked out, or its command line has failed."""


def find_commit(name: str | None) -> str:
    """The full hash of a commit or branch; `WORKING_TREE` for None.

    Raises:
        NotRun: git does not know it.
    """
    if name is None:
        return WORKING_TREE
    return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", what=f"commit {name!r}")


def short(commit: str) -> str:
    """The name that tables use."""
    return commit if commit == WORKING_TREE else commit[:9]


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A folder that holds a commit (see `find_commit`) for as long as it is needed."""
    if commit == WORKING_TREE:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="jaxgen-commit-") as parent:
        folder = Path(parent) / commit[:9]
        _git("worktree", "add", "--detach", "--quiet", str(folder), commit, what=f"{commit}")
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder), what=f"{folder}")


def run_matrix(
    folder: Path, flags: Sequence[str], cache: Path, python: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run the command line of a checkout to its end.

    Args:
        folder: the checkout.
        flags: of ``matrix.py``.
        cache: folder of compiled programs, in place of the user's.
        python: options of the interpreter.

    Raises:
        NotRun: it failed; the message holds the last lines that it printed.
    """
    command = [sys.executable, *python, str(folder / "experiments" / "matrix.py"), *flags]
    variables = {name: value for name, value in os.environ.items() if name not in _OUTER}
    variables |= {"XDG_CACHE_HOME": str(cache.absolute()), "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise NotRun(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
    return done


def _git(*words: str, what: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"{what}: git {words[0]} failed; {done.stderr.strip() or 'unknown here'}")
    return done.stdout.strip()

"""Fault injection: stop the process dead, or find the disk full, at a named point of writing.

With ``JAXGEN_KILL_AT=<name>`` or ``JAXGEN_KILL_AT=<name>:<count>`` in the environment the
process kills itself (SIGKILL, as by ``kill -9``) at the first, or the count-th, passage of that
point, so that a test can show that what lies on the disk is whole at every moment. With
``JAXGEN_FULL_AT`` the point raises what writing to a full disk raises.
"""

import errno
import os
import signal
from collections import Counter

from jaxgen.system.errors import BadInput

VARIABLE = "JAXGEN_KILL_AT"
FULL_VARIABLE = "JAXGEN_FULL_AT"

STORE_FILES = ("store", "spec", "agent", "history", "provenance", "result", "derived")
"""Kinds of files that the store writes."""

WRITE_POINTS = (
    *(f"{kind}.{stage}" for kind in STORE_FILES for stage in ("before", "written", "replaced")),
    "checkpoint.before",
    "checkpoint.arrays",
    "checkpoint.manifest",
    "checkpoint.moved",
    "checkpoint.placed",
    "log.before",
    "log.torn",
    "log.written",
)
"""The names of all points, in the order in which a file passes them.

``before`` writing; ``written`` to a temporary file; ``replaced``: it has its name. A
checkpoint: its ``arrays`` and then its ``manifest`` lie in a temporary folder; the old
checkpoint is ``moved`` aside; the new one is ``placed``. A line of a log: half of it is there
(``torn``); all of it is.
"""

_passages: Counter[str] = Counter()


def write_point(name: str) -> None:
    """Kill the process, or raise OSError, if the environment asks for it here; else do nothing.

    Raises:
        OSError: the environment asks for a full disk here.
        ValueError: the environment asks for a point that does not exist.
    """
    if not (os.environ.get(VARIABLE) or os.environ.get(FULL_VARIABLE)):
        return
    _passages[name] += 1
    if _is_asked_for(VARIABLE, name):
        os.kill(os.getpid(), signal.SIGKILL)
    if _is_asked_for(FULL_VARIABLE, name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_asked_for(variable: str, name: str) -> bool:
    """Whether a variable names this passage of a point."""
    wanted = os.environ.get(variable)
    if not wanted:
        return False
    point, _, count = wanted.partition(":")
    if point not in WRITE_POINTS or not (count or "1").isdecimal():
        raise BadInput(
            f"{variable}={wanted!r} is no write point; use <name> or <name>:<count> with one of "
            + ", ".join(WRITE_POINTS)
        )
    return point == name and _passages[name] == int(count or "1")

"""Fault injection: stop the process dead at a named point of writing.

With ``JAXGEN_KILL_AT=<name>`` or ``JAXGEN_KILL_AT=<name>:<count>`` in the environment the
process kills itself (SIGKILL, as by ``kill -9``) at the first, or the count-th, passage of that
point, so that a test can show that what lies on the disk is whole at every moment.
"""

import os
import signal
from collections import Counter

VARIABLE = "JAXGEN_KILL_AT"

STORE_FILES = ("store", "spec", "history", "provenance", "result", "derived")
"""Kinds of files that the store writes."""

WRITE_POINTS = (
    *(f"{kind}.{stage}" for kind in STORE_FILES for stage in ("before", "written", "replaced")),
    "checkpoint.before",
    "checkpoint.arrays",
    "checkpoint.manifest",
    "checkpoint.moved",
    "checkpoint.placed",
)
"""The names of all points, in the order in which a file passes them.

``before`` writing; ``written`` to a temporary file; ``replaced``: it has its name. A
checkpoint: its ``arrays`` and then its ``manifest`` lie in a temporary folder; the old
checkpoint is ``moved`` aside; the new one is ``placed``.
"""

_passages: Counter[str] = Counter()


def write_point(name: str) -> None:
    """Kill the process if the environment asks for it here; otherwise do nothing.

    Raises:
        ValueError: the environment asks for a point that does not exist.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    if point not in WRITE_POINTS or not (count or "1").isdecimal():
        raise ValueError(
            f"{VARIABLE}={wanted!r} is no write point; use <name> or <name>:<count> with one of "
            + ", ".join(WRITE_POINTS)
        )
    if point == name:
        _passages[name] += 1
        if _passages[name] == int(count or "1"):
            os.kill(os.getpid(), signal.SIGKILL)

"""Runs one contender in a process of its own, also in another interpreter than the benchmark's.

Imports nothing but the standard library and the contender, so that it starts wherever a peer is
installed. Speaks lines of JSON: the first on standard input says what to set up
(``{"contender": "module:function", "args": {...}, "packages": [...], "cores": null}``), each
``run`` after it asks for one measurement. Answers go to the standard output that the process
started with; what a library prints goes to standard error.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

MIN_SECONDS = 0.5
"""A turn of an environment repeats its steps for at least so long."""

Run = Callable[[], dict[str, Any]]
"""Runs once, waits for the end, and returns at least ``steps`` and ``seconds``."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Call it -> wall seconds, what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak_megabytes(usage: resource.struct_rusage) -> float:
    """The largest resident memory that a process has had, from its usage."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def versions(packages: list[str]) -> dict[str, str]:
    """Python's and those of the packages that are installed here."""
    by_package = {"python": platform.python_version()}
    for name in packages:
        try:
            by_package[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return by_package


def keep_to(cores: int) -> None:
    """Keep this process, with all threads that it starts from now on, to so many of its cores.

    Raises:
      RuntimeError: the system cannot, or has fewer.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise RuntimeError(f"cores = {cores} is not possible on {sys.platform}; use Linux")
    # From the end: the first core is the one that serves most interrupts.
    chosen = sorted(os.sched_getaffinity(0))[-cores:]
    if len(chosen) < cores:
        raise RuntimeError(f"cores = {cores} is not possible; use {len(chosen)} or fewer")
    os.sched_setaffinity(0, chosen)


def num_cores() -> int | None:
    """Cores that this process is kept to; None where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def main() -> int:
    """Serve one contender until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    request = json.loads(sys.stdin.readline())
    if request["cores"] is not None:
        # Before any library starts threads, which it counts by the cores that there are.
        keep_to(request["cores"])
    module, _, function = request["contender"].partition(":")
    try:
        setup = getattr(importlib.import_module(module), function)
        run, facts = setup(**request["args"])
    except ImportError as error:
        answer(missing=str(error))
        return 0
    answer(facts=facts, versions=versions(request["packages"]), cores=num_cores())
    for line in sys.stdin:
        if line.strip() == "run":
            result = run()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            answer(result=result, peak_megabytes=peak_megabytes(usage))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Contenders for the tests of the benchmarks' harness; they run in processes of their own."""

import os
from pathlib import Path


def steady(log, name, steps=100, seconds=2.0):
    """Always the same rate; notes every turn, so that their order can be seen."""

    def run():
        with Path(log).open("a") as file:
            file.write(f"{name}\n")
        return {"steps": steps, "seconds": seconds, "return": 7.0}

    return run, {"compile_seconds": 1.5}


def slowing(log, name):
    """Its turns take 1, 2, 3, ... seconds."""
    turns = []

    def run():
        turns.append(name)
        return {"steps": 60, "seconds": float(len(turns))}

    return run, {}


def absent(log, name):
    """A peer that is not installed."""
    import a_package_that_nobody_has  # noqa: F401  # pyright: ignore[reportMissingImports]


def broken(log, name):
    """A peer whose newest version has changed."""
    raise KeyError("no such map")


def talkative(log, name):
    """Prints where the harness listens."""
    print("loading...")
    return steady(log, name)


def dying(log, name):
    """Ends its process in its first turn."""
    return lambda: os._exit(3), {}


def kept(log, name):
    """Tells how many cores and devices it was given before its libraries started."""
    return steady(log, name)[0], {
        "cores": len(os.sched_getaffinity(0)), "flags": os.environ["XLA_FLAGS"]
    }

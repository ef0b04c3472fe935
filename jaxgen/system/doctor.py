"""Whether this machine can run jaxgen: checks that say what they found and what to do.

A check yields findings; one that raises becomes a problem itself, so that the rest is still seen.
What can end a process (drivers, procgen's C++) runs in a child with a time limit. Importing this
module imports neither JAX nor an environment; what must be known of procgen and MuJoCo is handed
in.
"""

import importlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from jaxgen.system import platform

Status = Literal["OK", "WARNING", "PROBLEM"]

OLDEST_PYTHON = (3, 11)
LIBRARIES = {
    "flax": "flax", "optax": "optax", "orbax-checkpoint": "orbax.checkpoint", "gymnax": "gymnax",
    "chex": "chex",
}  # fmt: skip
"""Packages that jaxgen needs beside JAX, with the module of each that must be importable."""
GB = 1e9
LOW_MEMORY = 4 * GB
"""Bytes; less than this warns. The default matrix takes 1.8 GB, XLA's compiler some more."""
LOW_DISK = 2 * GB
"""Bytes; less than this warns."""
START_SECONDS = 120.0
"""Longest time for JAX to start and add three numbers."""
GAMES_SECONDS = 120.0
"""Longest time for all games of procgen together, and again for the levels' first images."""
NUM_LEVELS = 10
"""Levels whose first images are compared."""


class Finding(NamedTuple):
    """A line of the report."""

    status: Status
    what: str
    remedy: str = ""
    """What to do, unless all is well."""

    def __str__(self) -> str:
        text = f"{self.status:8s} {self.what}"
        return f"{text}; {self.remedy}" if self.remedy else text


Check = Callable[[], Iterable[Finding]]


class Games(NamedTuple):
    """Facts about procgen for the checks; ``play`` and ``show`` are code for a child process."""

    names: tuple[str, ...]
    missing: Callable[[], str | None]
    """What is missing before they can be played, and what to do about it; None: nothing."""
    play: str
    """Makes and steps each game of its arguments in turn; prints the name of each that works."""
    show: str
    """Prints a line for each of the levels 0, 1, ... below its argument: hashes of the first image
    in Starpilot's easy mode, as two vectors show it, with a blank between."""


class Child(NamedTuple):
    """The output and the end of a child process."""

    lines: list[str]
    """Lines of its standard output."""
    fault: str | None
    """Why it did not end as it should; None: it did."""


def all_checks(
    out: Path, find_games: Callable[[], Games], missing_engine: Callable[[], str | None]
) -> dict[str, Check]:
    """Every check by what it looks at.

    Args:
      out: where results would go.
      find_games: is asked within a check, so that it may raise.
      missing_engine: says within a check what MuJoCo's robots lack and what to do about it; None:
        nothing.
    """
    return {
        "Python": check_python,
        "cores": check_cores,
        "memory": check_memory,
        "versions of jax": check_versions,
        "libraries": check_libraries,
        "start of JAX": check_start,
        "procgen": lambda: check_procgen(find_games()),
        "mujoco": lambda: check_mujoco(missing_engine),
        "results folder": lambda: check_out(out),
    }


def examine(checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Run checks one after the other; a check that raises is a PROBLEM."""
    for name, check in checks.items():
        try:
            yield from check()
        except (Exception, SystemExit) as error:
            what = f"{name}: the check itself failed ({type(error).__name__}: {error})"
            yield Finding("PROBLEM", what, "mend what the error names, or report it")


def summarise(findings: Iterable[Finding]) -> str:
    """How many findings there are of each status."""
    statuses = [finding.status for finding in findings]
    counts = {status: statuses.count(status) for status in ("OK", "WARNING", "PROBLEM")}
    return ", ".join(f"{count} {status}" for status, count in counts.items())


# The machine


def check_python() -> Iterator[Finding]:
    """Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("PROBLEM", f"Python {version}", f"use Python {oldest} or newer")
    else:
        yield Finding("OK", f"Python {version}")


def check_cores() -> Iterator[Finding]:
    """Cores that this process may use."""
    count = platform.num_cores()
    yield Finding("OK", f"{count} CPU core{'s' if count > 1 else ''} ({platform.cpu_model()})")


def check_memory(source: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """Memory that new programs can have without swapping."""
    try:
        fields = dict(line.split(":", 1) for line in source.read_text().splitlines())
        available = 1024 * float(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        yield Finding("OK", "memory: this system does not say how much is available")
        return
    what = f"memory: {available / GB:.1f} GB available"
    if available < LOW_MEMORY:
        remedy = f"close other programs: with less than {LOW_MEMORY / GB:.0f} GB runs may be killed"
        yield Finding("WARNING", what, remedy)
    else:
        yield Finding("OK", what)


# What is installed


def install_command() -> str:
    """The command that installs jaxgen with its packages; on a GPU or TPU with the jax for it."""
    extra = platform.accelerator()
    return f'pip install "jax[{extra}]" -e .' if extra else (
        "pip install --no-deps -r requirements.lock -e ."
    )  # fmt: skip


def check_versions() -> Iterator[Finding]:
    """JAX and jaxlib are here, and of one version."""
    versions = {name: _version(name) for name in ("jax", "jaxlib")}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        what = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed"
        yield Finding("PROBLEM", what, f"run: {install_command()}")
        return
    what = ", ".join(f"{name} {version}" for name, version in versions.items())
    if versions["jax"] == versions["jaxlib"]:
        yield Finding("OK", what)
    else:
        remedy = f"install one of both, e.g. {install_command()}"
        yield Finding("WARNING", f"{what}: two versions", remedy)


def check_libraries() -> Iterator[Finding]:
    """The other packages can be imported."""
    for package, module in LIBRARIES.items():
        version = _version(package)
        if version is None:
            yield Finding("PROBLEM", f"{package} is not installed", f"run: {install_command()}")
            continue
        try:
            # What a package warns of at its import is not for its user to mend.
            with warnings.catch_warnings(action="ignore"):
                importlib.import_module(module)
        except Exception as error:
            what = f"{package} {version} cannot be imported ({type(error).__name__}: {error})"
            yield Finding("PROBLEM", what, f"install it anew: {install_command()}")
        else:
            yield Finding("OK", f"{package} {version}")


def check_start() -> Iterator[Finding]:
    """JAX starts, as every command starts it: backend, known faults, compilation cache."""
    code = "from jaxgen.system.doctor import describe_start as run; run()"
    child = run_child(code, [], START_SECONDS)
    if child.fault:
        what = f"JAX does not start ({child.fault})"
        yield Finding("PROBLEM", what, f"install it anew: {install_command()}")
        return
    start = json.loads(child.lines[-1])
    count, names = len(start["devices"]), ", ".join(start["devices"])
    devices = f"{count} device{'s' if count > 1 else ''} ({names})"
    yield Finding("OK", f"JAX computes on {start['backend']}, {devices}")
    yield check_jaxlib(start["backend"])
    yield check_cache(start["cache"], start["warnings"])


def describe_start() -> None:
    """Start JAX, compute, and print a line of JSON about it: run in a child."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = platform.configure(allow_known_bad=True)
    import jax

    assert float(jax.numpy.ones(3).sum()) == 3.0, "1 + 1 + 1 is not 3"
    start = {
        "backend": jax.default_backend(),
        "devices": [f"{device.device_kind}:{device.id}" for device in jax.devices()],
        "cache": cache and str(cache),
        "warnings": [str(warning.message) for warning in caught],
    }
    print(json.dumps(start))


def check_jaxlib(backend: str) -> Finding:
    """Known faults of this jaxlib, which concern CPUs only."""
    if backend != "cpu":
        return Finding("OK", f"jaxlib: its known faults do not concern {backend}")
    try:
        platform.check_jaxlib()
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        return Finding("PROBLEM", what, remedy)
    return Finding("OK", "jaxlib: no fault is known on a CPU")


def check_cache(folder: str | None, said: list[str]) -> Finding:
    """The compilation cache can be written.

    Args:
      folder: None where there is none.
      said: the warnings that say why.
    """
    if folder is None:
        what, _, remedy = "; ".join(said or ["no compilation cache"]).partition("; ")
        return Finding("WARNING", what, remedy or "set XDG_CACHE_HOME to a folder of your own")
    fault = write_fault(Path(folder))
    if fault:
        remedy = "set JAX_COMPILATION_CACHE_DIR to a folder of your own"
        return Finding("WARNING", f"compilation cache {folder} cannot be written ({fault})", remedy)
    return Finding("OK", f"compilation cache {folder}")


# procgen


def check_procgen(games: Games) -> Iterator[Finding]:
    """Its games run, and its levels are what experiments take them for."""
    if what := games.missing():
        yield Finding("WARNING", "Starpilot is not available", what)
        return
    failed = failing_games(games)
    if failed:
        by_fault: dict[str, list[str]] = {}
        for game, fault in failed.items():
            by_fault.setdefault(fault, []).append(game)
        faults = "; ".join(f"{', '.join(names)}: {fault}" for fault, names in by_fault.items())
        what = f"procgen: {len(failed)} of {len(games.names)} games do not run ({faults})"
        yield Finding("PROBLEM", what, remedy_of(faults))
    else:
        yield Finding("OK", f"procgen: {len(games.names)} games run")
    yield check_levels(games)


def check_mujoco(missing: Callable[[], str | None]) -> Iterator[Finding]:
    """Its version is the one whose numbers are known."""
    if what := missing():
        yield Finding("WARNING", "MuJoCo's robots are not available", what)
    else:
        yield Finding("OK", f"mujoco {_version('mujoco')}")


def remedy_of(fault: str) -> str:
    """A remedy for a fault of procgen: a new one lacks the same library of the system."""
    if "cannot open shared object file" in fault:
        return "install the package of your system that has the library which is named"
    return f"install procgen anew: {install_command()}"


def failing_games(games: Games) -> dict[str, str]:
    """Games that cannot be made and stepped, with the reason."""
    failed: dict[str, str] = {}
    remaining, deadline = list(games.names), time.monotonic() + GAMES_SECONDS
    while remaining:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return failed | dict.fromkeys(remaining, "not tried, the time was up")
        child = run_child(games.play, remaining, seconds)
        remaining = [game for game in remaining if game not in child.lines]
        if remaining:
            # It ended in the first game that it has not reported; the others get a child anew.
            failed[remaining.pop(0)] = child.fault or "it ended without a word"
    return failed


def check_levels(games: Games) -> Finding:
    """A level's seed decides what it looks like: else nothing here would measure generalisation."""
    child = run_child(games.show, [str(NUM_LEVELS)], GAMES_SECONDS)
    what = f"procgen: first images of Starpilot's levels 0 to {NUM_LEVELS - 1}"
    if child.fault:
        return Finding("PROBLEM", f"{what} cannot be shown ({child.fault})",
                       remedy_of(child.fault))  # fmt: skip
    remedy = f"results on Starpilot would mean nothing; {remedy_of('')}"
    pairs = [line.split() for line in child.lines]
    changed = [str(level) for level, (first, again) in enumerate(pairs) if first != again]
    if changed:
        return Finding("PROBLEM", f"{what}: another one each time in {', '.join(changed)}", remedy)
    num_distinct = len({first for first, _ in pairs})
    if num_distinct < NUM_LEVELS:
        return Finding("PROBLEM", f"{what}: only {num_distinct} differ", remedy)
    return Finding("OK", f"{what} are distinct, and the same each time")


# Folders


def check_out(out: Path) -> Iterator[Finding]:
    """Results can be written, and there is space for them."""
    fault = write_fault(out)
    if fault:
        what = f"results folder {out} cannot be written ({fault})"
        yield Finding("PROBLEM", what, "choose another one with --out")
        return
    yield Finding("OK", f"results folder {out} can be written")
    free = shutil.disk_usage(_existing(out)).free
    what = f"disk: {free / GB:.1f} GB free where results go"
    if free < LOW_DISK:
        yield Finding("WARNING", what, "make space, or choose another disk with --out")
    else:
        yield Finding("OK", what)


def write_fault(folder: Path) -> str | None:
    """Why nothing could be written into a folder, which need not exist yet; None: it could.

    Leaves nothing behind and makes no folder.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


# Parts


def run_child(code: str, arguments: list[str], seconds: float) -> Child:
    """Run code in a Python of its own, for some seconds at most."""
    command = [sys.executable, "-c", code, *arguments]
    # JAX would put a remark on its tracebacks behind the error.
    environment = os.environ | {"JAX_TRACEBACK_FILTERING": "off"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as late:
        return Child(_lines(late.stdout or b""), f"no answer within {seconds:.0f} s")
    return Child(_lines(done.stdout), _fault(done.returncode, _lines(done.stderr)))


def _lines(said: bytes) -> list[str]:
    return said.decode(errors="replace").splitlines()


def _fault(code: int, said: list[str]) -> str | None:
    """Why a process ended with this exit code; the last line that it said often says why."""
    if code == 0:
        return None
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {last}" if last else how


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

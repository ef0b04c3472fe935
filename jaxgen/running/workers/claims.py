"""Claims of processes on units of work: small files in a folder that all of them see.

Attempt n at a unit is the file ``<unit>.<n>.json``. Exactly one process creates it, and rewrites it
now and then as a sign of life. Once it has shown none for long enough, by the clock of the process
that looks, another one may create attempt n + 1; a process that finds a later attempt than its own
has lost the unit and stops. So no claim ever changes hands and no two clocks are compared. At worst
a unit is worked on twice, with the same bytes as outcome.
"""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.system.files import TEMP_PREFIX

RUNNING, RELEASED, DONE, FAILED = "running", "released", "done", "failed"
"""States of an attempt; released: stopped on request, and free at once."""

MAX_DEATHS = 3
"""Attempts that may end without a word and no further than others; then the unit counts as
failed."""

OUTAGE_SECONDS = 5.0
"""Longest gap between two looks, in seconds, that still counts as watching; half of the silence
that is taken for death, where that is longer. After a longer gap, as when the file system stood
still, silence is measured anew."""

_NAME = re.compile(r"([^.].*)\.(\d+)\.json")


class Attempt(NamedTuple):
    """The latest attempt at a unit, as it stood when it was read."""

    unit: str
    number: int
    state: str
    worker: str
    """Name of the worker that makes it."""
    deaths: int
    """Attempts before it that ended without a word, none of them further than the first."""
    share: float
    """How far attempts that ended without a word have come at most."""
    stale_seconds: float
    """Time without a sign of life after which its worker is to count as dead."""
    report: dict[str, Any]
    """What the worker says: ``log``, ``error``, progress; and a count of its signs of life."""


class Claims:
    """The claims of a folder, seen by one process.

    Args:
      folder: is made if it is missing.
      worker: the name of this process, unlike any other's.
      stale_seconds: after so long without a sign of life an attempt counts as dead, or after
        what its worker says, if that is longer.
    """

    def __init__(self, folder: Path, worker: str, stale_seconds: float):
        self.folder = folder
        self.worker = worker
        self.stale_seconds = stale_seconds
        self._seen: dict[tuple[str, int], tuple[Any, float, float]] = {}
        """Looks by unit and attempt: the report, since when it is that, the time of the look."""
        self._final: dict[str, Attempt] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def attempts(self) -> dict[str, Attempt]:
        """The latest attempt of each unit that has one."""
        numbers: dict[str, int] = {}
        for name in os.listdir(self.folder):
            if match := _NAME.fullmatch(name):
                numbers[match[1]] = max(int(match[2]), numbers.get(match[1], 0))
        return {unit: self._read(unit, number) for unit, number in sorted(numbers.items())}

    def is_stale(self, attempt: Attempt) -> bool:
        """Whether a running attempt has not changed for as long as this process has looked."""
        if attempt.state != RUNNING:
            return False
        key, now = (attempt.unit, attempt.number), time.monotonic()
        stale_seconds = max(self.stale_seconds, attempt.stale_seconds)
        known, since, looked = self._seen.get(key, (None, now, now))
        if known != attempt.report or now - looked > max(OUTAGE_SECONDS, stale_seconds / 2):
            since = now
        self._seen[key] = attempt.report, since, now
        return now - since >= stale_seconds

    def silence(self, attempt: Attempt) -> float:
        """Seconds since its last sign of life, by the clock of the file system."""
        path = self.folder / f"{attempt.unit}.{attempt.number}.json"
        try:
            return time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def take(self, unit: str, last: Attempt | None) -> "Claim | None":
        """Begin the attempt after ``last``; None: another process was faster, or it is not free."""
        if last is not None and last.state != RELEASED and not self.is_stale(last):
            return None
        claim = Claim(self, unit, 1 if last is None else last.number + 1, *_deaths_until(last))
        if not claim.create():
            return None
        if last is not None and claim.deaths >= MAX_DEATHS:
            where, many = last.report.get("log", "unknown"), f"{claim.deaths} workers"
            claim.write(
                FAILED, log=where,
                error=f"{many} ended without a word, killed perhaps for their memory",
            )  # fmt: skip
            return None
        return claim

    def inherit(self, unit: str, last: Attempt | None) -> "Claim":
        """The attempt of a process that is known to have ended, or the first; to write its end."""
        if last is None:
            claim = Claim(self, unit, 1)
            claim.create()
            return claim
        return Claim(self, unit, last.number, last.deaths, last.share)

    def clear(self) -> None:
        """Forget everything; only while no worker runs."""
        for path in self.folder.iterdir():
            path.unlink()

    def _read(self, unit: str, number: int) -> Attempt:
        if unit in self._final and self._final[unit].number == number:
            return self._final[unit]
        try:
            content = json.loads((self.folder / f"{unit}.{number}.json").read_text())
            attempt = Attempt(
                unit, number, content["state"], content["worker"], int(content["deaths"]),
                float(content["share"]), float(content["stale_seconds"]), content["report"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            # Just created, and not yet written; or by a process that died then.
            return Attempt(unit, number, RUNNING, "unknown", 0, 0.0, 0.0, {})
        if attempt.state in (DONE, FAILED):
            self._final[unit] = attempt
        return attempt


def _deaths_until(last: Attempt | None) -> tuple[int, float]:
    """Deaths and share of the attempt after ``last``; a death further on is no repetition."""
    if last is None or last.state != RUNNING:
        return (0, 0.0) if last is None else (last.deaths, last.share)
    share = last.report.get("share", 0.0)
    return (1, share) if share > last.share else (last.deaths + 1, last.share)


class Claim:
    """An attempt of this process."""

    def __init__(
        self, claims: Claims, unit: str, number: int, deaths: int = 0, share: float = 0.0
    ):
        self.unit, self.deaths = unit, deaths
        self._claims, self._number, self._share = claims, number, share
        self._beats = 0

    def create(self) -> bool:
        """Whether this process, and no other, has made the attempt's file."""
        try:
            descriptor = os.open(self._path(self._number), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.close(descriptor)
        self.write(RUNNING)
        return True

    def write(self, state: str, **report: Any) -> None:
        """Say how it stands; every call is a sign of life."""
        self._beats += 1
        content = {
            "state": state, "worker": self._claims.worker,
            "deaths": self.deaths, "share": self._share,
            "stale_seconds": self._claims.stale_seconds,
            "report": report | {"beat": self._beats},
        }  # fmt: skip
        path = self._path(self._number)
        temp = path.with_name(TEMP_PREFIX + path.name)
        temp.write_text(json.dumps(content))
        os.replace(temp, path)

    def is_lost(self) -> bool:
        """Whether another process has taken this one for dead and begun anew."""
        return self._path(self._number + 1).exists()

    @contextmanager
    def beating(self, seconds: float, report: Callable[[], dict[str, Any]]) -> Iterator[None]:
        """Show signs of life, with what ``report`` says, while the block runs."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(seconds):
                try:
                    self.write(RUNNING, **report())
                except OSError:
                    continue  # A disk that is full for a moment; silence is taken for death later.

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _path(self, number: int) -> Path:
        return self._claims.folder / f"{self.unit}.{number}.json"

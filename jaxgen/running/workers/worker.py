"""A worker: takes units one after the other until none is left."""

import os
import re
import secrets
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from jaxgen.results.store import Store
from jaxgen.running.reporter import History, Lane, Reporter
from jaxgen.running.session import Interrupted
from jaxgen.running.workers.claims import DONE, FAILED, RELEASED, RUNNING, Attempt, Claim, Claims
from jaxgen.running.workers.units import LOGS, Unit
from jaxgen.system.files import NO_SPACE

BEATS_PER_STALE = 6
"""Signs of life in the time after which their absence means death."""
POLL_SECONDS = 1.0
"""Time between two looks at what other workers do, while there is nothing to take."""


class Lost(Exception):
    """Another process has taken this worker's unit."""


class WorkerReporter:
    """A reporter that remembers how far the current unit is, for its claim."""

    def __init__(self, inner: Reporter):
        self._inner = inner
        self._progress: dict[str, Any] = {}

    def note(self, text: str) -> None:
        """Pass it on."""
        self._inner.note(text)

    def stage(self, text: str) -> None:
        """Pass it on."""
        self._inner.stage(text)

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        """Remember it, and pass it on."""
        self._progress = {
            "label": label, "share": min(1.0, env_steps / total), "rate": rate,
            "seconds_left": max(0.0, total - env_steps) / rate if rate > 0 else None,
        }  # fmt: skip
        self._inner.progress(label, env_steps, total, rate)

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        """Pass it on."""
        self._inner.curve(label, lanes, history)

    def begin(self) -> None:
        """Forget the last unit."""
        self._progress = {}

    def report(self) -> dict[str, Any]:
        """How far the unit is, for its claim."""
        return dict(self._progress)


@cache
def worker_name() -> str:
    """A name that no other running process has, in containers of the same host name neither."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40].strip("-")
    return f"{host or 'host'}-{os.getpid()}-{secrets.token_hex(2)}"


def own_log(store: Store, unit: str | None) -> str:
    """Send all that this process prints into a log, and return its path; a unit has one already.

    The compiled parts of the process print there too. The path is printed before.
    """
    if unit is not None:
        return str(store.path(f"{LOGS}/{unit}.log"))
    path = store.path(f"{LOGS}/{worker_name()}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    print(f"prints into {path}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    return str(path)


class Worker:
    """Takes units and runs them.

    Args:
      units: of the plan, in the order in which they should be taken; those whose workers died
        are taken last.
      claims: which worker has which unit.
      run: (unit, should_stop) -> None: trains what the store lacks of it.
      reporter: that ``run`` tells of progress.
      log: the path of this process's log, which its claims name.
      should_stop: asked while training.
    """

    def __init__(
        self, units: Sequence[Unit], claims: Claims,
        run: Callable[[Unit, Callable[[], bool]], None], reporter: WorkerReporter, log: str,
        should_stop: Callable[[], bool],
    ):  # fmt: skip
        self._units, self._claims, self._run = list(units), claims, run
        self._reporter, self._log, self._should_stop = reporter, log, should_stop

    def work(self) -> None:
        """Run units until all are done or failed.

        Raises:
          Interrupted: a stop was asked for; the unit is free for others.
          OSError: the disk is full, as it would be for the next unit; this one is free.
        """
        while True:
            if self._should_stop():
                raise Interrupted("stopped between two units")
            attempts = self._claims.attempts()
            if all(is_over(attempts.get(unit.name)) for unit in self._units):
                return
            unit, claim = self._take(attempts)
            if claim is None:
                # Other workers have the units that are left; they may die.
                time.sleep(POLL_SECONDS)
            else:
                self._work_on(unit, claim)

    def _take(self, attempts: dict[str, Attempt]) -> tuple[Any, Claim | None]:
        for unit in sorted(self._units, key=lambda unit: _deaths(attempts.get(unit.name))):
            last = attempts.get(unit.name)
            if not is_over(last):
                claim = self._claims.take(unit.name, last)
                if claim is not None:
                    return unit, claim
        return None, None

    def _work_on(self, unit: Unit, claim: Claim) -> None:
        def should_stop() -> bool:
            if claim.is_lost():
                # Not a stop: the checkpoint is another process's now.
                raise Lost(f"{unit.name} was taken by another worker, which is at it")
            return self._should_stop()

        def report() -> dict[str, Any]:
            return self._reporter.report() | {"log": self._log}

        self._reporter.begin()
        self._reporter.note(f"unit {unit.name}: {len(unit.lanes)} runs")
        beat_seconds = self._claims.stale_seconds / BEATS_PER_STALE
        try:
            # At once: should the unit kill this process, its log is known.
            claim.write(RUNNING, **report())
            with claim.beating(beat_seconds, report):
                self._run(unit, should_stop)
            claim.write(DONE, **report())
        except Lost as lost:
            self._reporter.note(str(lost))
        except (Interrupted, KeyboardInterrupt):
            claim.write(RELEASED, **report())
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                with suppress(OSError):
                    claim.write(RELEASED, full=error.strerror, **report())
                raise
            with suppress(OSError):
                traceback.print_exc()
            claim.write(FAILED, error=text, **report())


def _deaths(last: Attempt | None) -> int:
    """How many workers a unit may have killed."""
    return 0 if last is None else last.deaths + (last.state == RUNNING)


def is_over(attempt: Attempt | None) -> bool:
    """Whether a unit needs no more work."""
    return attempt is not None and attempt.state in (DONE, FAILED)

"""The work inside of a results folder: of the launching process, and of a worker."""

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from jaxgen.results.lock import InUse, Lock, locked
from jaxgen.results.store import Store
from jaxgen.running.kinds.base import Kind
from jaxgen.running.runner import discard, release, run_lanes
from jaxgen.running.session import Session
from jaxgen.running.workers import launch
from jaxgen.running.workers.claims import Claims
from jaxgen.running.workers.cut import make_units, remove_useless
from jaxgen.running.workers.settings import Launch
from jaxgen.running.workers.units import CLAIMS, LOGS, Unit, read_units, write_plan
from jaxgen.running.workers.view import failures
from jaxgen.running.workers.worker import Worker, WorkerReporter, is_over, worker_name
from jaxgen.study.product import Study
from jaxgen.system.errors import BadInput

PATIENCE_SECONDS = 1.0
"""How long workers take to end once all units are over."""
POLL_SECONDS = 0.2
"""Time between two looks whether the other workers have ended."""
QUIET_SECONDS = 5.0
"""Waiting for longer is worth a line."""


@contextmanager
def planned(
    study: Study, store: Store, kind: Kind, how: Launch, fresh: bool,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[Lock, list[Unit]]]:
    """Share the folder with workers, with the units that they work on.

    Where workers of the same study are at it already, theirs are the units, unless all are over.

    Raises:
      StoreError: a process is at work that is not a worker of the same study.
    """
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(store, patience=PATIENCE_SECONDS))
        except InUse:
            if how.isolated or fresh:
                raise
            lock = stack.enter_context(locked(store, shared=True))
            joined = not _are_over(read_units(store, study), store, how)
            if not joined:
                wait_alone(lock, note)
        else:
            joined = False
        if not joined:
            _plan(study, store, kind, how, fresh, note)
            lock.share()
        # Between being alone and sharing, another process may have planned.
        yield lock, read_units(store, study)


def _plan(
    study: Study, store: Store, kind: Kind, how: Launch, fresh: bool, note: Callable[[str], None]
) -> None:
    if fresh:
        discard(study, store)
    remove_useless(study, store, kind, note)
    units = make_units(study, store, kind, 1 if how.isolated else how.num_workers)
    write_plan(store, study, units)
    _claims(store, how, "launcher").clear()


def _are_over(units: Sequence[Unit], store: Store, how: Launch) -> bool:
    attempts = _claims(store, how, "launcher").attempts()
    return all(is_over(attempts.get(unit.name)) for unit in units)


def wait_alone(lock: Lock, note: Callable[[str], None]) -> None:
    """Wait until no other process is at work in the folder; a note says so if that takes long."""
    began, told = time.monotonic(), False
    while not lock.alone():
        if not told and time.monotonic() - began >= QUIET_SECONDS:
            told = True
            note("waiting for the other workers of this folder")
        time.sleep(POLL_SECONDS)


def coordinate(
    units: Sequence[Unit], store: Store, how: Launch, executor: Any, command: Sequence[str],
    tell: Callable[[list[str]], None], should_stop: Callable[[], bool],
) -> list[str]:
    """Start workers, inside of `planned`, and wait; returns what went wrong, in words.

    Args:
      units: what to do.
      store: where.
      how: which workers, and how many.
      executor: of `launch.make_executor`; None for ``how.isolated``.
      command: of a worker.
      tell: is given the lines of the view, again and again.
      should_stop: asked all the time.

    Raises:
      ValueError: the cluster refuses the workers.
    """
    claims = _claims(store, how, "launcher")
    if how.isolated:
        log_of = lambda unit: store.path(f"{LOGS}/{unit.name}.log")  # noqa: E731
        return launch.run_isolated(units, claims, command, log_of, tell, should_stop)
    if not units:
        return []
    workers = launch.start(executor, how.launcher, command, min(how.num_workers, len(units)))
    return launch.wait(units, claims, workers, store.path(LOGS), tell, should_stop)


def what_failed(units: Sequence[Unit], store: Store, how: Launch) -> list[str]:
    """The units that failed, in words.

    Raises:
      OSError: a unit was given back because the disk is full.
    """
    attempts = _claims(store, how, "launcher").attempts()
    if full := launch.full_disk(units, attempts):
        raise OSError(errno.ENOSPC, full)
    return failures(units, attempts)


def work(
    session: Session, study: Study, how: Launch, log: str, only: str | None = None
) -> list[str]:
    """Be a worker for all units of the folder's plan, or for one; returns what went wrong.

    Args:
      session: not alone; the lock of its store is held, shared.
      study: what the plan is of.
      how: the launcher's.
      log: the path of this process's log.
      only: the name of a unit.

    Raises:
      Interrupted: the options' ``should_stop`` said so.
      StoreError: the plan is another study's.
      ValueError: there is no such unit.
    """
    store, options = session.store, session.options
    units = read_units(store, study)
    if only is not None:
        units = [unit for unit in units if unit.name == only]
        if not units:
            raise BadInput(f"there is no unit {only!r} in the plan of {store.root}")
    claims = _claims(store, how, worker_name())
    watched = WorkerReporter(session.reporter)

    def run(unit: Unit, should_stop: Callable[[], bool]) -> None:
        changed = replace(options, should_stop=should_stop)
        this = session._replace(options=changed, reporter=watched)
        # First: the unit before may have failed.
        release()
        run_lanes(this, study.groups[unit.group], unit.lanes_of(study))

    Worker(units, claims, run, watched, log, options.should_stop).work()
    return failures(units, claims.attempts())


def _claims(store: Store, how: Launch, name: str) -> Claims:
    return Claims(store.path(CLAIMS), name, how.stale_seconds)

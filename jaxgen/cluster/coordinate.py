"""What the launching process does, and what a worker does, inside of a results folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from jaxgen.cluster import launch
from jaxgen.cluster.claims import Claims
from jaxgen.cluster.cut import make_units
from jaxgen.cluster.settings import Launch
from jaxgen.cluster.units import CLAIMS, JOBS, LOGS, Unit, read_units, write_plan
from jaxgen.cluster.view import failures
from jaxgen.cluster.worker import Worker, WorkerReporter, worker_name
from jaxgen.runner import discard, release, run_lanes
from jaxgen.session import Options, Reporter, Session
from jaxgen.store import InUse, Lock, Store, locked
from jaxgen.study import Study


@contextmanager
def planned(
    study: Study, store: Store, how: Launch, fresh: bool
) -> Iterator[tuple[Lock, list[Unit]]]:
    """Share the folder with workers, with the units that they work on.

    Where workers of the same study are at it already, theirs are the units.

    Raises:
      StoreError: a process is at work that is not a worker of the same study.
    """
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(store))
        except InUse:
            if how.isolated or fresh:
                raise
            lock = stack.enter_context(locked(store, shared=True))
            units = read_units(store, study)
        else:
            if fresh:
                discard(study, store)
            units = make_units(study, store, 1 if how.isolated else how.num_workers)
            write_plan(store, study, units)
            _claims(store, how, "launcher").clear()
            lock.share()
        yield lock, units


def coordinate(
    units: Sequence[Unit], store: Store, how: Launch, command: Sequence[str],
    tell: Callable[[list[str]], None], should_stop: Callable[[], bool],
) -> list[str]:
    """Start workers, inside of `planned`, and wait; returns what went wrong, in words.

    Args:
      units: what to do.
      store: where.
      how: which workers, and how many.
      command: of a worker.
      tell: is given the lines of the view, again and again.
      should_stop: asked all the time.
    """
    claims = _claims(store, how, "launcher")
    if how.isolated:
        log_of = lambda unit: store.path(f"{LOGS}/{unit.name}.log")  # noqa: E731
        return launch.run_isolated(units, claims, command, log_of, tell, should_stop)
    if not units:
        return []
    num_workers, jobs = min(how.num_workers, len(units)), store.path(JOBS)
    workers = launch.submit(how.launcher, command, num_workers, jobs, how.settings)
    return launch.wait(units, claims, workers, tell, should_stop)


def work(
    study: Study, store: Store, make_task: Callable[..., Any], reporter: Reporter,
    options: Options, how: Launch, log: str, only: str | None = None,
) -> list[str]:
    """Be a worker for all units of the folder's plan, or for one; returns what went wrong.

    Args:
      study: what the plan is of.
      store: its lock is held, shared.
      make_task: (registry name, **options) -> Task.
      reporter: is told of progress.
      options: how to run.
      how: the launcher's.
      log: the path of this process's log.
      only: the name of a unit.

    Raises:
      Interrupted: ``options.should_stop`` said so.
      StoreError: the plan is another study's.
      ValueError: there is no such unit.
    """
    units = read_units(store, study)
    if only is not None:
        units = [unit for unit in units if unit.name == only]
        if not units:
            raise ValueError(f"there is no unit {only!r} in the plan of {store.root}")
    claims = _claims(store, how, worker_name())
    watched, episodes = WorkerReporter(reporter), {}

    def run(unit: Unit, should_stop: Callable[[], bool]) -> None:
        own = replace(options, should_stop=should_stop)
        session = Session(store, make_task, own, watched, episodes, alone=False)
        run_lanes(session, study.groups[unit.group], unit.lanes_of(study))
        release()

    Worker(units, claims, run, watched, log, options.should_stop).work()
    return failures(units, claims.attempts())


def _claims(store: Store, how: Launch, name: str) -> Claims:
    return Claims(store.path(CLAIMS), name, how.stale_seconds)

"""How far the workers of a study are, in words."""

from collections.abc import Mapping, Sequence

from jaxgen.running.workers.claims import DONE, FAILED, RUNNING, Attempt
from jaxgen.running.workers.units import Unit


def progress_lines(
    units: Sequence[Unit], attempts: Mapping[str, Attempt], num_workers: int
) -> list[str]:
    """A headline, then a line for each unit that a worker has."""
    states = [_state(attempts, unit) for unit in units]
    counts = f"{states.count(DONE)} of {len(units)} units done"
    if FAILED in states:
        counts += f", {states.count(FAILED)} failed"
    workers = "1 worker" if num_workers == 1 else f"{num_workers} workers"
    running = [unit for unit, state in zip(units, states, strict=True) if state == RUNNING]
    return [f"{workers}: {counts}", *(_describe(unit, attempts[unit.name]) for unit in running)]


def failures(units: Sequence[Unit], attempts: Mapping[str, Attempt]) -> list[str]:
    """The error of each unit that failed, and the path of its log."""
    words = []
    for unit in units:
        if _state(attempts, unit) == FAILED:
            report = attempts[unit.name].report
            words.append(
                f"{unit.name} ({len(unit.lanes)} runs) failed: {report.get('error')}; "
                f"its log: {report.get('log', 'unknown')}"
            )
    return words


def _state(attempts: Mapping[str, Attempt], unit: Unit) -> str | None:
    return attempts[unit.name].state if unit.name in attempts else None


def _describe(unit: Unit, attempt: Attempt) -> str:
    report = attempt.report
    line = f"  {unit.name}, {len(unit.lanes)} runs, {attempt.worker}"
    if "share" in report:
        line += f": {100 * report['share']:.0f} %, {report['rate'] / 1e6:.3g} M steps/s"
    return line

"""How far the workers of a study are, in words."""

from collections.abc import Callable, Mapping, Sequence

from jaxgen.running.watching.console import duration, speed
from jaxgen.running.workers.claims import DONE, FAILED, RUNNING, Attempt
from jaxgen.running.workers.units import Unit

SILENT_SECONDS = 60.0
"""Silence of a worker that is worth a word; three signs of life are missing by then."""


def progress_lines(
    units: Sequence[Unit], attempts: Mapping[str, Attempt], num_workers: int,
    silence: Callable[[Attempt], float] = lambda attempt: 0.0,
) -> list[str]:
    """A headline, then a line for each unit that a worker has.

    Args:
      units: of the plan.
      attempts: the latest of each unit that has one.
      num_workers: that are alive.
      silence: seconds since an attempt's last sign of life.
    """
    states = [_state(attempts, unit) for unit in units]
    counts = f"{states.count(DONE)} of {len(units)} units done"
    if FAILED in states:
        counts += f", {states.count(FAILED)} failed"
    workers = "1 worker" if num_workers == 1 else f"{num_workers} workers"
    running = [unit for unit, state in zip(units, states, strict=True) if state == RUNNING]
    lines = (_describe(unit, attempts[unit.name], silence(attempts[unit.name])) for unit in running)
    return [f"{workers}: {counts}", *lines]


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


def taken_over(units: Sequence[Unit], attempts: Mapping[str, Attempt]) -> list[str]:
    """The units that were begun more than once, in words."""
    lasts = [(unit, attempts[unit.name]) for unit in units if unit.name in attempts]
    return [
        f"{unit.name} ({len(unit.lanes)} runs) was begun {last.number} times, as a worker that had "
        f"it died or gave it back; {last.worker} had it last"
        for unit, last in lasts if last.number > 1
    ]  # fmt: skip


def _describe(unit: Unit, attempt: Attempt, silence: float) -> str:
    report = attempt.report
    line = f"  {unit.name}, {len(unit.lanes)} runs, {attempt.worker}"
    if attempt.number > 1:
        line += f" (attempt {attempt.number})"
    if silence >= SILENT_SECONDS:
        return f"{line}: no sign of life for {silence:.0f} s, killed perhaps"
    if "share" in report:
        line += f": {100 * report['share']:.0f} %, {speed(report['rate'])}"
    if report.get("seconds_left") is not None:
        line += f", ETA {duration(report['seconds_left'])}"
    return line

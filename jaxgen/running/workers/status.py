"""The state of a results folder: done, running, failed and missing runs of its study."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress

from jaxgen.results.lock import in_use
from jaxgen.results.store import Store
from jaxgen.running.workers.claims import FAILED, RUNNING, Attempt, Claims
from jaxgen.running.workers.settings import Launch
from jaxgen.running.workers.units import CLAIMS, RunKey, Unit, read_plan
from jaxgen.running.workers.view import failures
from jaxgen.system import checkpoint
from jaxgen.system.files import DamagedFile

KINDS = ("done", "running", "in flight", "failed", "missing")
"""A run in flight has its first part in a checkpoint, and no worker has it."""


def status_text(store: Store) -> str:
    """A table with a row for each cell, and what went wrong; nothing is changed.

    Args:
      store: opened for reading.
    """
    kinds, notes = kinds_of(store)
    cells: dict[str, Counter[str]] = defaultdict(Counter)
    for (name, _), kind in kinds.items():
        cells[name.rsplit("-", 1)[0]][kind] += 1
    width = max([len("cell"), *map(len, cells)])
    rows = [*sorted(cells.items()), ("all", Counter(kinds.values()))]
    table = [f"{'cell':{width}}" + "".join(f"{kind:>11}" for kind in KINDS)]
    for label, counts in rows:
        table.append(f"{label:{width}}" + "".join(f"{counts[kind] or '-':>11}" for kind in KINDS))
    return "\n".join([*table, *notes])


def kinds_of(store: Store) -> tuple[dict[RunKey, str], list[str]]:
    """How each run stands, and the failures in words."""
    plan = read_plan(store)
    runs = [] if plan is None else plan.runs
    units = [] if plan is None else plan.units
    aliases = _aliases(store)
    kinds = dict.fromkeys([run for run in runs if run[0] not in aliases], "missing")
    for run in _in_checkpoints(store):
        kinds[run] = "in flight"
    notes: list[str] = []
    busy = _is_busy(store, notes)
    if units and store.path(CLAIMS).is_dir():
        kinds |= _in_claims(store, units, busy, notes)
    if busy and not units:
        notes.append("a process is at work here")
    kinds |= dict.fromkeys(_done(store), "done")
    for alias, trained in aliases.items():
        kinds |= {
            (alias, seed): kinds.get((trained, seed), "missing")
            for name, seed in runs
            if name == alias
        }
    return kinds, notes


def _is_busy(store: Store, notes: list[str]) -> bool:
    """Whether a process is at work, as far as that can be known."""
    try:
        return in_use(store)
    except OSError as error:
        notes.append(
            f"whether a process is at work here cannot be told from {error.filename} "
            f"({error.strerror}): what is said to be running may have ended"
        )
        return True


def _in_claims(
    store: Store, units: Sequence[Unit], busy: bool, notes: list[str]
) -> dict[RunKey, str]:
    """Runs that are running or have failed by the claims; the notes gain what is to be said."""
    claims = Claims(store.path(CLAIMS), "status", Launch.stale_seconds)
    attempts = claims.attempts()
    notes += failures(units, attempts)
    kinds: dict[RunKey, str] = {}
    for unit in units:
        if unit.name in attempts:
            kind = _kind_of(unit, attempts[unit.name], claims, busy, notes)
            kinds |= dict.fromkeys(unit.lanes, kind) if kind else {}
    return kinds


def _kind_of(
    unit: Unit, attempt: Attempt, claims: Claims, busy: bool, notes: list[str]
) -> str | None:
    """How the runs of a unit stand by its latest attempt; None: as if there were none."""
    if attempt.state != RUNNING or not busy:
        return FAILED if attempt.state == FAILED else None
    silence = claims.silence(attempt)
    if silence <= (attempt.stale_seconds or claims.stale_seconds):
        return RUNNING
    notes.append(
        f"{unit.name} ({len(unit.lanes)} runs) is silent: no sign of life of {attempt.worker} for "
        f"{silence:.0f} s; its log: {attempt.report.get('log', 'unknown')}"
    )
    return None


def _done(store: Store) -> list[RunKey]:
    """Runs that have a result, whole or not."""
    return [(name, seed) for name in store.run_names() for seed in store.seeds(name)]


def _aliases(store: Store) -> dict[str, str]:
    """Runs that are others by another name, with these."""
    aliases = {}
    for name in store.run_names():
        # A damaged one is written again by the next start.
        with suppress(DamagedFile):
            if trained := store.read_spec(name).get("alias_of"):
                aliases[name] = trained
    return aliases


def _in_checkpoints(store: Store) -> list[RunKey]:
    runs: list[RunKey] = []
    for path in checkpoint.saved_in(store.root / "checkpoints"):
        with suppress(checkpoint.DamagedCheckpoint):
            runs += [(name, seed) for name, seed in checkpoint.peek(path)["lanes"]]
    return runs

"""What is done, running, failed and missing of the study that a results folder is of."""

from collections import Counter, defaultdict
from contextlib import suppress

from jaxgen import checkpoint
from jaxgen.cluster.claims import FAILED, RUNNING, Claims
from jaxgen.cluster.units import CLAIMS, Run, read_plan
from jaxgen.cluster.view import failures
from jaxgen.store import DamagedFile, Store, in_use

KINDS = ("done", "running", "in flight", "failed", "missing")
"""In flight: nobody works on it, and a checkpoint holds its first part."""


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


def kinds_of(store: Store) -> tuple[dict[Run, str], list[str]]:
    """How each run stands, and the failures in words."""
    plan = read_plan(store)
    runs = [] if plan is None else plan.runs
    units = [] if plan is None else plan.units
    aliases = _aliases(store)
    kinds = dict.fromkeys([run for run in runs if run[0] not in aliases], "missing")
    for run in _in_checkpoints(store):
        kinds[run] = "in flight"
    attempts, busy, notes = {}, in_use(store), []
    if units and store.path(CLAIMS).is_dir():
        attempts = Claims(store.path(CLAIMS), "status", 0.0).attempts()
        notes = failures(units, attempts)
    for unit in units:
        state = attempts[unit.name].state if unit.name in attempts else None
        if state == FAILED or (state == RUNNING and busy):
            kinds |= dict.fromkeys(unit.lanes, state)
    if busy and not units:
        notes.append("a process is at work here")
    kinds |= dict.fromkeys(_done(store), "done")
    for alias, own in aliases.items():
        kinds |= {
            (alias, seed): kinds.get((own, seed), "missing") for name, seed in runs if name == alias
        }
    return kinds, notes


def _done(store: Store) -> list[Run]:
    """Runs that have a result, whole or not."""
    found = (store.root / "runs").glob("*/seed_*/result.json")
    return [(path.parts[-3], int(path.parts[-2].removeprefix("seed_"))) for path in found]


def _aliases(store: Store) -> dict[str, str]:
    """Runs that are others by another name, with these."""
    found = {}
    for path in (store.root / "runs").glob("*/spec.json"):
        # A damaged one is written again by the next start.
        with suppress(DamagedFile):
            if own := store.read_spec(path.parent.name).get("alias_of"):
                found[path.parent.name] = own
    return found


def _in_checkpoints(store: Store) -> list[Run]:
    runs: list[Run] = []
    for path in checkpoint.saved_in(store.root / "checkpoints"):
        with suppress(checkpoint.DamagedCheckpoint):
            runs += [(name, seed) for name, seed in checkpoint.peek(path)["lanes"]]
    return runs

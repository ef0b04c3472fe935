"""Finished runs, read from a store as records."""

from collections.abc import Iterable

from jaxgen.results.records import Record, alias_records, check_record
from jaxgen.results.store import Store, scan
from jaxgen.system.errors import BadInput


def missing_runs(
    records: Iterable[Record], plan: Iterable[tuple[str, int]]
) -> dict[str, list[int]]:
    """Run name -> seeds that the plan [(run name, seed)] has and the records have not."""
    present = {(record.name, record.seed) for record in records}
    missing: dict[str, list[int]] = {}
    for name, seed in plan:
        if (name, seed) not in present:
            missing.setdefault(name, []).append(seed)
    return missing


def read_records(store: Store) -> tuple[list[Record], list[str]]:
    """Read a whole store: records, those of aliases included, and damage in words."""
    contents = scan(store)
    records, damaged = [], [str(damage) for damage in contents.damaged]
    for run in contents.runs:
        history = lambda run=run: store.read_history(run.run_name, run.seed)  # noqa: E731
        provenance = store.read_provenance(run.run_name, run.seed)
        record = Record(run.spec, run.seed, run.result, history, provenance)
        try:
            check_record(record)
        except BadInput as error:
            damaged.append(str(error))
        else:
            records.append(record)
    return records + alias_records(records, contents.aliases), damaged


def read_results(store: Store, prefix: str) -> list[Record]:
    """Records, not those of aliases, by their result.json alone; quick where histories are large.

    Args:
      store: where they lie.
      prefix: of the names of the runs.
    """
    runs = scan(store, prefix, whole=False).runs
    return [Record(run.spec, run.seed, run.result, {}, {}) for run in runs]

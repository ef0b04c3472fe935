"""Everything that is derived from finished runs: tables, histories, figures, summaries."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from jaxgen import analysis, summary
from jaxgen.records import Record, alias_records, check_records
from jaxgen.store import Store, scan


def read_records(store: Store) -> tuple[list[Record], list[str]]:
    """What lies in a store: records with those of aliases, and damage in words."""
    found = scan(store)
    records = []
    for run in found.runs:
        history = lambda run=run: store.read_history(run.run_name, run.seed)  # noqa: E731
        provenance = store.read_provenance(run.run_name, run.seed)
        records.append(Record(run.spec, run.seed, run.result, history, provenance))
    return records + alias_records(records, found.aliases), [str(d) for d in found.damaged]


def read_results(store: Store, prefix: str) -> list[Record]:
    """Records, not those of aliases, by their result.json alone; quick where histories are large.

    Args:
      store: where they lie.
      prefix: of the names of the runs.
    """
    runs = scan(store, prefix, whole=False).runs
    return [Record(run.spec, run.seed, run.result, {}, {}) for run in runs]


def write_outputs(
    store: Store, plan: Collection[tuple[str, int]] | None = None, plots: bool = True
) -> tuple[list[Record], list[str]]:
    """Write every table and figure that the records allow.

    Args:
      store: results; the caller holds its lock.
      plan: (run name, seed) of every run that is expected; None: unknown.
      plots: draw the figures too.

    Returns:
      The records and the damaged files in words.
    """
    records, damaged = read_records(store)
    store.write_text("results.csv", analysis.csv_text(analysis.rows(records)))
    store.write_text("experiment_summary.txt", summary.summary(records, plan))
    store.write_text("experiment_summary.md", summary.summary(records, plan, markdown=True))
    by_experiment = _by_experiment(records)
    for experiment, group in by_experiment.items():
        store.write_json(f"metrics/{experiment}_history.json", analysis.history_json(group))
    if plots and records:
        _draw(store, records, by_experiment)
    return records, damaged


def _by_experiment(records: list[Record]) -> Mapping[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in check_records(records):
        groups[record.experiment].append(record)
    return groups


def _draw(store: Store, records: list[Record], groups: Mapping[str, list[Record]]) -> None:
    from jaxgen import plotting

    def write(name: str, figure: Any) -> None:
        store.write_bytes(f"plots/{name}.png", plotting.to_png(figure))

    for experiment, group in groups.items():
        write(f"{experiment}_learning_curves", plotting.learning_curves(group))
        if not all(record.diverged for record in group):
            write(f"{experiment}_grs_curve", plotting.grs_curve(group))
    write("grs_heatmap", plotting.grs_heatmap(records))
    for environment in sorted({record.environment for record in records}):
        write(f"{environment}_degradation", plotting.degradation(records, environment))

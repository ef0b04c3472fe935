"""Everything that is derived from finished runs: tables, histories, figures, summaries."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from jaxgen.report import summary
from jaxgen.results import histories, table
from jaxgen.results.best import copy_best
from jaxgen.results.read import read_records
from jaxgen.results.records import Record, check_records
from jaxgen.results.store import Store


def write_outputs(
    store: Store, plan: Collection[tuple[str, int]] | None = None, plots: bool = True
) -> tuple[list[Record], list[str]]:
    """Write every table and figure that the records allow.

    Args:
      store: results; the caller holds its lock.
      plan: (run name, seed) of every run that is expected; None: unknown.
      plots: draw the figures too.

    Returns:
      The records, and in words the files that are damaged or in the way of others.
    """
    records, damaged = read_records(store)
    store.write_text("results.csv", table.csv_text(table.rows(records)))
    store.write_text("experiment_summary.txt", summary.summary(records, plan))
    store.write_text("experiment_summary.md", summary.summary(records, plan, markdown=True))
    by_experiment = _by_experiment(records)
    for experiment, group in by_experiment.items():
        store.write_json(f"metrics/{experiment}_history.json", histories.history_json(group))
    in_the_way = copy_best(store, records)
    if plots and records:
        _draw(store, records, by_experiment)
    return records, damaged + in_the_way


def _by_experiment(records: list[Record]) -> Mapping[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in check_records(records):
        groups[record.experiment].append(record)
    return groups


def _draw(store: Store, records: list[Record], groups: Mapping[str, list[Record]]) -> None:
    from jaxgen.report import figures, style

    def write(name: str, figure: Any) -> None:
        store.write_bytes(f"plots/{name}.png", style.to_png(figure))

    for experiment, group in groups.items():
        write(f"{experiment}_learning_curves", figures.learning_curves(group))
        if not all(record.diverged for record in group):
            write(f"{experiment}_grs_curve", figures.grs_curve(group))
    write("grs_heatmap", figures.grs_heatmap(records))
    for environment in sorted({record.environment for record in records}):
        write(f"{environment}_degradation", figures.degradation(records, environment))

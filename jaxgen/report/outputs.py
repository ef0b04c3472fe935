"""Everything that is derived from finished runs: tables, histories, figures, summaries."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jaxgen.report import summary
from jaxgen.report.shown import figure_sets
from jaxgen.results import histories, table
from jaxgen.results.best import copy_best
from jaxgen.results.read import read_records
from jaxgen.results.records import Record, check_records
from jaxgen.results.settings import settings_text
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
    store.write_text("settings.csv", settings_text(records))
    store.write_text("experiment_summary.txt", summary.summary(records, plan))
    store.write_text("experiment_summary.md", summary.summary(records, plan, markdown=True))
    by_experiment = _by_experiment(records)
    for experiment, group in by_experiment.items():
        store.write_json(f"metrics/{experiment}_history.json", histories.history_json(group))
    in_the_way = copy_best(store, records)
    if plots and records:
        _draw(store, records, {name for name, _ in plan or ()})
    return records, damaged + in_the_way


def _by_experiment(records: Iterable[Record]) -> Mapping[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in check_records(records):
        groups[record.experiment].append(record)
    return groups


def _draw(store: Store, records: list[Record], planned: Collection[str]) -> None:
    """Draw figures of each setting apart; of quick runs those of a whole environment alone."""
    from jaxgen.report import figures, style, training

    def write(name: str, figure: Any) -> None:
        store.write_bytes(f"plots/{name}.png", style.to_png(figure))

    for suffix, chosen in figure_sets(records, planned).items():
        write(f"grs_heatmap{suffix}", figures.grs_heatmap(chosen))
        trained = [record for record in chosen if not record.alias_of]
        for name in dict.fromkeys(record.environment for record in trained):
            write(f"{name}_degradation{suffix}", figures.degradation(trained, name))
            write(f"{name}_shift_grid{suffix}", figures.shift_grid(trained, name))
            write(f"{name}_learning_grid{suffix}", training.learning_grid(trained, name))
            if (figure := training.generalisation_curves(trained, name)) is not None:
                write(f"{name}_generalisation_curves{suffix}", figure)
        full = [record for record in chosen if not record.quick]
        for name, group in _by_experiment(full).items():
            write(f"{name}_learning_curves{suffix}", training.learning_curves(group))
            if not all(record.diverged for record in group):
                write(f"{name}_grs_curve{suffix}", figures.grs_curve(group))

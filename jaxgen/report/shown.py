"""The runs that a table or a figure shows: of an algorithm on an environment one setting at a time.

Figures name them here, and have a panel for each.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.report.style import subplots
from jaxgen.results.records import Cell, Record, algorithm_order, arm_order, group_cells
from jaxgen.study.cards import algorithm_title, figure_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place = tuple[str, str]
"""Environment and algorithm, without overrides."""


def by_setting(
    records: Iterable[Record], planned: Collection[str] = ()
) -> dict[Place, list[list[Record]]]:
    """Records of each place by their setting, the one to show first.

    Full runs go before quick ones, runs that are planned before others, then the setting with
    more trained runs, then the larger budget.

    Args:
      records: of any settings.
      planned: names of runs that the last command asked for.
    """
    places: dict[Place, dict[str, list[Record]]] = {}
    for record in records:
        settings = places.setdefault((record.environment, record.algorithm), {})
        settings.setdefault(record.setting, []).append(record)
    names = set(planned)
    return {
        place: sorted(settings.values(), key=lambda group: _weight(group, names), reverse=True)
        for place, settings in places.items()
    }


def _weight(group: Sequence[Record], planned: set[str]) -> tuple[bool, bool, int, int, str]:
    return (
        not any(record.quick for record in group),
        any(record.name in planned for record in group),
        num_trained(group),
        group[0].result["env_steps"]["requested"],
        group[0].setting,
    )


def num_trained(group: Sequence[Record]) -> int:
    """How many of the records are no aliases."""
    return sum(record.alias_of is None for record in group)


def shown_cells(records: Iterable[Record]) -> list[Cell]:
    """Cells of one setting of each place, each arm once: of two by one name that with more seeds.

    Raises:
        ValueError: no record.
    """
    cells = group_cells(record for groups in by_setting(records).values() for record in groups[0])
    if not cells:
        raise ValueError("this figure needs at least one record; got none")
    largest = {
        (cell.environment, cell.algorithm, cell.arm): cell.name
        for cell in sorted(cells, key=lambda cell: len(cell.records))
    }
    return [cell for cell in cells if cell.name in largest.values()]


def figure_sets(
    records: Iterable[Record], planned: Collection[str] = ()
) -> dict[str, list[Record]]:
    """Records by what stands behind a figure's name: no figure mixes two settings of a place.

    "": the first setting of every place. ``_<algorithm>_<setting>``: another one.
    """
    sets: dict[str, list[Record]] = {}
    for (_, algorithm), groups in by_setting(records, planned).items():
        for index, group in enumerate(groups):
            name = f"_{algorithm}_{group[0].setting}" if index else ""
            sets.setdefault(name, []).extend(group)
    return sets


def budget(cells: Sequence[Cell]) -> str:
    """The environment steps that were asked for: ``50k steps``, or ``50k to 1M steps``."""
    steps = sorted({cell.records[0].result["env_steps"]["requested"] for cell in cells})
    return " to ".join(map(_short, dict.fromkeys((steps[0], steps[-1])))) + " steps"


def _short(number: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


# Parts of figures


def experiment_cell(records: Iterable[Record]) -> tuple[Cell, str]:
    """The cell to show of one experiment, and what it is.

    Raises:
        ValueError: no record, or records of several experiments.
    """
    records = list(records)
    experiments = sorted({record.experiment for record in records})
    if len(experiments) != 1:
        raise ValueError(f"this figure needs records of one experiment; got {experiments}")
    cell = shown_cells(records)[0]
    alias = f" (alias of {cell.alias_of})" if cell.alias_of else ""
    settings = len({record.name for record in records})
    setting = f" [run {cell.digest}, 1 of {settings} settings]" if settings > 1 else ""
    place = f"{algorithm_title(cell.algorithm)} on {figure_title(cell.environment)}"
    return cell, f"{place}, {cell.arm}{alias}, {budget([cell])}{setting}"


def grid_of_arms(
    records: Iterable[Record], environment: str
) -> tuple["Figure", list[tuple[Cell, "Axes"]]]:
    """A small panel for each arm of an environment: a row per algorithm, a column per technique.

    Of several settings one is shown, as in `shown_cells`; aliases are not.
    """
    chosen = shown_cells(record for record in records if record.environment == environment)
    cells = [cell for cell in chosen if not cell.alias_of]
    algorithms = sorted({cell.algorithm for cell in cells}, key=algorithm_order)
    arms = sorted({cell.arm for cell in cells}, key=arm_order)
    figure, axes = subplots(len(algorithms), len(arms), 2.1, 1.8, sharex="row", sharey="row")
    found = {(cell.algorithm, cell.arm): cell for cell in cells}
    filled = []
    for algorithm, row in zip(algorithms, axes, strict=True):
        for arm, axis in zip(arms, row, strict=True):
            cell = found.get((algorithm, arm))
            if cell is None:
                axis.spines[:].set_visible(False)
                axis.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
            else:
                axis.set_title(f"{arm} ({count_words(cell)})", fontsize=8)
                axis.tick_params(labelsize=7)
                filled.append((cell, axis))
        group = [cell for cell in cells if cell.algorithm == algorithm]
        name = algorithm_title(algorithm).replace("@", "\n@")
        longest = max(map(len, name.split("\n")))
        row[0].set_ylabel(f"{name}\n{budget(group)}", fontsize=min(8, 130 / longest))
    return figure, filled


def count_words(cell: Cell) -> str:
    """Number of seeds, and of those that diverged."""
    failed = f", {cell.num_diverged} diverged" if cell.num_diverged else ""
    return f"n = {len(cell.records)}{failed}"


def alpha_of(num_seeds: int) -> float:
    """Opacity of the line of one of so many seeds."""
    return float(np.clip(1.5 / num_seeds, 0.12, 0.5))

"""Parts of figures that show cells: which, what they are called, a panel for each."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.report.shown import budget, shown_cells
from jaxgen.report.style import subplots
from jaxgen.results.records import Cell, Record, algorithm_order, arm_order
from jaxgen.study.cards import algorithm_title, figure_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


def grid_of_arms(cells: Sequence[Cell]) -> tuple["Figure", list[tuple[Cell, "Axes"]]]:
    """A small panel for each cell: a row per algorithm, a column per technique."""
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
        row[0].set_ylabel(f"{name}\n{budget(group)}", fontsize=8)
    return figure, filled


def count_words(cell: Cell) -> str:
    """Number of seeds, and of those that diverged."""
    failed = f", {cell.num_diverged} diverged" if cell.num_diverged else ""
    return f"n = {len(cell.records)}{failed}"


def alpha_of(num_seeds: int) -> float:
    """Opacity of the line of one of so many seeds."""
    return float(np.clip(1.5 / num_seeds, 0.12, 0.5))

"""Figures from records; each function returns the Figure, `save` writes it.

Colours are those of Okabe and Ito (distinct for colour-blind readers); every arm also has its own
line style and marker, so that figures can be read in grey. A figure shows one mode of evaluation,
individual seeds beside every mean, and n. Matplotlib is imported when a figure is drawn, and used
without pyplot: no window, no backend, no global state.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.report.shown import (
    alpha_of,
    budget,
    count_words,
    experiment_cell,
    grid_of_arms,
    shown_cells,
)
from jaxgen.report.style import (
    ANY_TRAINING_LEVELS,
    BLUE,
    CEILING,
    GREY,
    LEVEL_LIMITS,
    RANDOM_PLAY,
    RED,
    TRAINING_LEVELS,
    Style,
    arm_styles,
    default_look,
    finish,
    legend_below,
    level_axis,
    panels,
    spread,
    spread_words,
    subplots,
)
from jaxgen.results.records import (
    HEADLINE_MODE,
    Array,
    Cell,
    Record,
    algorithm_order,
    arm_order,
    environment_order,
    levels_of,
)
from jaxgen.study.cards import algorithm_title, figure_title
from jaxgen.techniques import SUITES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MAX_OFFSET = 0.01
"""Largest distance of a point from its level, as a share of the axis."""

# Return against level


@default_look()
def grs_curve(records: Iterable[Record], mode: str = HEADLINE_MODE) -> "Figure":
    """J(v) and s(v) of one experiment, with floor, ceiling and the training levels.

    Of several settings one is shown, as in `shown_cells`.

    Raises:
        ValueError: no record, or records of several experiments.
    """
    cell, title = experiment_cell(records)
    figure, ((left, right),) = subplots(1, 2, width=4.6, height=3.9)
    _draw_references(left, cell.records)
    right.axhline(1, color=GREY, lw=1, ls="--")
    right.axhline(0, color=GREY, lw=1, ls=":")
    levels = np.array(levels_of(cell.records))
    label = f"seeds and their mean ({count_words(cell)}): {_score_text(cell, mode)}"
    _draw_seeds(left, levels, cell.curves(mode), label)
    _draw_seeds(right, levels, cell.normalised_curves(mode), label)
    left.set(ylabel=f"J(v): mean return ({mode})")
    right.set(ylabel="s(v): 0 random play, 1 ceiling")
    for axis in (left, right):
        level_axis(axis, cell.records[0].training_levels)
    legend_below(figure, figure.axes)
    finish(figure, f"{title}: return under shift", cell.quick)
    return figure


def _draw_seeds(axis: "Axes", levels: Array, curves: Array, label: str) -> None:
    if not len(curves):
        axis.plot([], [], ":", color=RED, label=label)
        axis.text(0.5, 0.5, "no run finished", color=RED, ha="center", transform=axis.transAxes)
        return
    if len(curves) > 1:
        axis.plot(levels, curves.T, lw=0.8, color=BLUE, alpha=alpha_of(len(curves)))
    axis.plot(levels, curves.mean(axis=0), "o-", lw=2, ms=5, color=BLUE, label=label)


def _score_text(cell: Cell, mode: str) -> str:
    if not cell.finished:
        return "failed"
    return f"A {_mean_text(cell, 'A', mode)}, {_retention_text(cell, mode)}"


# All cells


@default_look()
def grs_heatmap(records: Iterable[Record], mode: str = HEADLINE_MODE) -> "Figure":
    """Algorithm x arm, a panel per environment: colour is A, text the scores and n.

    Of several settings of an algorithm one is shown, as in `shown_cells`.

    Raises:
        ValueError: no record.
    """
    cells = shown_cells(records)
    environments = sorted({cell.environment for cell in cells}, key=environment_order)
    rows = [
        sorted({cell.algorithm for cell in cells if cell.environment == name}, key=algorithm_order)
        for name in environments
    ]
    arms = sorted({c.arm for c in cells} | set(SUITES["controls"]), key=arm_order)
    heights = [max(2.3, 0.75 * len(names) + 0.75) for names in rows]
    figure, axes = subplots(
        len(environments), 1, 1.45 * len(arms) + 1.6, float(np.mean(heights)),
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    image: Any = None
    for axis, environment, algorithms in zip(axes.flat, environments, rows, strict=True):
        grid = {(c.algorithm, c.arm): c for c in cells if c.environment == environment}
        table = [[grid.get((algorithm, arm)) for arm in arms] for algorithm in algorithms]
        image = _draw_heatmap(axis, table, mode)
        axis.set_title(figure_title(environment), loc="left", fontweight="bold")
        axis.set_xticks(range(len(arms)), arms)
        axis.set_yticks(range(len(algorithms)), [_row_title(row) for row in table])
    figure.colorbar(image, ax=axes, label="A", shrink=0.8, aspect=30)
    note = f"{mode}; bold and colour: A, absolute robustness"
    if any(cell.alias_of for cell in cells):
        note += "; hatched: alias, no evidence of its own"
    finish(figure, "Generalisation scores", any(c.quick for c in cells), note)
    return figure


def _row_title(row: Sequence[Cell | None]) -> str:
    """An algorithm, each override on a line of its own, and its budget."""
    cells = [cell for cell in row if cell]
    lines = algorithm_title(cells[0].algorithm).replace("@", "\n@")
    return f"{lines}\n{budget(cells)}"


def _draw_heatmap(axis: "Axes", table: list[list[Cell | None]], mode: str) -> Any:
    from matplotlib.patches import Rectangle

    area = np.array([[_mean_score(cell, "A", mode) for cell in row] for row in table])
    image = axis.imshow(area, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axis.set_facecolor("#e8e8e8")
    axis.tick_params(length=0)
    for i, row in enumerate(table):
        for j, cell in enumerate(row):
            if cell and cell.alias_of:
                box = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="//", lw=0)
                box.set_edgecolor("#ffffff55")
                axis.add_patch(box)
            # A cell without a value is light.
            color = "white" if area[i, j] < 0.5 else "black"
            style: Any = {"color": color, "ha": "center", "textcoords": "offset points"}
            head, rest = _cell_text(cell, mode)
            axis.annotate(head, (j, i), (0, 10), size=8.5, weight="bold", **style)
            axis.annotate(rest, (j, i), (0, 5), size=7.5, va="top", **style)
    return image


def _cell_text(cell: Cell | None, mode: str) -> tuple[str, str]:
    """Headline and the lines below it."""
    if cell is None:
        return "missing", ""
    count = count_words(cell) + (f" (of {cell.alias_of})" if cell.alias_of else "")
    if not cell.finished:
        return "failed", count
    return f"A {_mean_text(cell, 'A', mode)}", f"{_retention_text(cell, mode)}\n{count}"


@default_look()
def degradation(records: Iterable[Record], environment: str, mode: str = HEADLINE_MODE) -> "Figure":
    """Return against level of every arm of an environment, one panel per algorithm.

    Lines are means over seeds, whiskers the range of the seeds, of `MANY_SEEDS` or more their
    middle half. Aliases are not drawn. Of several settings one is shown, as in `shown_cells`.

    Raises:
        ValueError: no record of the environment.
    """
    chosen = [record for record in records if record.environment == environment]
    cells = [cell for cell in shown_cells(chosen) if not cell.alias_of]
    algorithms = sorted({cell.algorithm for cell in cells}, key=algorithm_order)
    width = 3.6 if len(algorithms) > 1 else 5.4
    figure, axes = panels(len(algorithms), width, height=3.9, sharey=True)
    for axis, algorithm in zip(axes, algorithms, strict=True):
        group = [cell for cell in cells if cell.algorithm == algorithm]
        title = algorithm_title(algorithm).replace("@", "\n@")
        axis.set_title(f"{title}\n{budget(group)} ({_counts(group)})", fontsize=10)
        _draw_arms(axis, [(cell.arm, cell) for cell in group], mode)
    axes[0].set_ylabel(f"mean return ({mode})")
    seeds = spread_words(len(cell.finished) for cell in cells)
    legend_below(figure, figure.axes, f"means over seeds, whiskers: {seeds}")
    title = f"{figure_title(environment)}: return under shift"
    finish(figure, title, any(cell.quick for cell in cells))
    return figure


@default_look()
def shift(title: str, named: Sequence[tuple[str, Cell]], mode: str = HEADLINE_MODE) -> "Figure":
    """Return against level of some cells by names of their own, in one panel."""
    figure, ((axis,),) = subplots(1, 1, 6.4, 3.9)
    _draw_arms(axis, named, mode)
    axis.set_ylabel(f"mean return ({mode})")
    cells = [cell for _, cell in named]
    seeds = spread_words(len(cell.finished) for cell in cells)
    legend_below(figure, figure.axes, f"means over seeds, whiskers: {seeds}")
    finish(figure, title, any(cell.quick for cell in cells))
    return figure


def _draw_arms(axis: "Axes", named: Sequence[tuple[str, Cell]], mode: str) -> None:
    """Lines of several cells, so little beside each other that each point stays at its level."""
    _draw_references(axis, [record for _, cell in named for record in cell.records])
    styles = arm_styles(name for name, _ in named)
    widest = 2 * MAX_OFFSET * (LEVEL_LIMITS[1] - LEVEL_LIMITS[0])
    step = widest / max(len(named) - 1, 6)
    for i, (name, cell) in enumerate(named):
        _draw_arm(axis, name, cell, mode, styles[name], (i - (len(named) - 1) / 2) * step)
    trained_on = {level for _, cell in named for level in cell.records[0].training_levels}
    level_axis(axis, trained_on, TRAINING_LEVELS if len(named) == 1 else ANY_TRAINING_LEVELS)


def _draw_arm(
    axis: "Axes", name: str, cell: Cell, mode: str, style: Style, offset: float
) -> None:
    curves = cell.curves(mode)
    if not len(curves):
        return
    mean = curves.mean(axis=0)
    levels = np.array(levels_of(cell.records)) + offset
    low, high = spread(curves)
    # The mean may lie outside the middle half, or by rounding outside the range.
    ends = np.maximum(0, [mean - low, high - mean])
    axis.errorbar(levels, mean, ends, color=style.color, marker=style.marker, ls=style.line,
                  ms=4.5, lw=1.3, elinewidth=0.8, label=name)  # fmt: skip


@default_look()
def shift_grid(
    records: Iterable[Record], environment: str, mode: str = HEADLINE_MODE
) -> "Figure":
    """Return against level of every arm of an environment, a small panel with its seeds for each.

    Rows are algorithms, columns techniques. Of several settings one is shown, as in `shown_cells`.

    Raises:
        ValueError: no record of the environment.
    """
    figure, axes = grid_of_arms(records, environment)
    for cell, axis in axes:
        _draw_references(axis, cell.records)
        label = "seeds and their mean"
        _draw_seeds(axis, np.array(levels_of(cell.records)), cell.curves(mode), label)
        level_axis(axis, cell.records[0].training_levels)
        axis.set_xlabel("")
    legend_below(figure, figure.axes)
    title = f"{figure_title(environment)}: mean return ({mode}) against variation level"
    finish(figure, title, any(cell.quick for cell, _ in axes))
    return figure


# Parts


def _draw_references(axis: "Axes", records: Sequence[Record]) -> None:
    finished = [record for record in records if not record.diverged]
    if not finished:
        return
    levels, references = levels_of(finished), finished[0].result["references"]
    axis.plot(levels, references["ceiling"], color=GREY, lw=1, ls="--", label=CEILING)
    axis.plot(levels, references["floor"], color=GREY, lw=1, ls=":", label=RANDOM_PLAY)


def _retention_text(cell: Cell, mode: str) -> str:
    if not cell.num_valid(mode):
        return "did not learn"
    return f"grs_n {_mean_text(cell, 'grs_n', mode)}"


def _mean_text(cell: Cell, name: str, mode: str) -> str:
    value = _mean_score(cell, name, mode)
    return "null" if np.isnan(value) else f"{value:.2f}"


def _mean_score(cell: Cell | None, name: str, mode: str) -> float:
    values = list(cell.scores(name, mode).values()) if cell else []
    return float(np.mean(values)) if values else np.nan


def _counts(cells: Sequence[Cell]) -> str:
    counts = sorted({len(cell.records) for cell in cells})
    failed = sum(cell.num_diverged for cell in cells)
    text = f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    return text + (f", {failed} diverged" if failed else "")

"""Figures from records; each function returns the Figure, `save` writes it.

Colours are those of Okabe and Ito (distinct for colour-blind readers); every arm also has its own
line style and marker, so that figures can be read in grey. A figure shows one mode of evaluation,
individual seeds beside every mean, and n. Matplotlib is imported when a figure is drawn, and used
without pyplot: no window, no backend, no global state.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.report.style import (
    BLUE,
    FLAG,
    GREY,
    MANY_SEEDS,
    ORANGE,
    RED,
    Style,
    arm_styles,
    default_look,
    finish,
    legend_below,
    level_axis,
    mean_curve,
    smooth,
    steps_axis,
    subplots,
    thinned,
)
from jaxgen.results.records import (
    HEADLINE_MODE,
    Array,
    Cell,
    History,
    Record,
    algorithm_order,
    arm_order,
    environment_order,
    group_cells,
    levels_of,
)
from jaxgen.study.cards import figure_title
from jaxgen.techniques import SUITES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Learning curves


@default_look()
def learning_curves(records: Iterable[Record]) -> "Figure":
    """Reward, loss and, where there is one, epsilon of one experiment against env steps.

    Training reward is smoothed; the greedy evaluations at level 0 are drawn on top. Thin lines
    are seeds, thick lines means over the seeds that did not diverge. Of several settings one is
    shown, as in `grs_heatmap`.

    Raises:
        ValueError: no record, or records of several experiments.
    """
    cell, title = _experiment_cell(records)
    runs = [(record, record.load_history()) for record in cell.records]
    panels = [("reward", "return at training levels"), ("loss", "loss"), ("epsilon", "epsilon")]
    panels = [panel for panel in panels if any(panel[0] in history for _, history in runs)]
    figure, axes = subplots(1, max(1, len(panels)), width=4.2, height=3.4)
    for axis, (name, label) in zip(axes.flat, panels, strict=False):
        _draw_training(axis, cell, runs, name)
        axis.set(xlabel="environment steps", ylabel=label)
        steps_axis(axis)
    _draw_evaluations(axes.flat[0], cell, runs)
    legend_below(figure, axes.flat[:1])
    finish(figure, f"{title}: training", cell.quick)
    return figure


def _draw_training(axis: "Axes", cell: Cell, runs: list[tuple[Record, History]], name: str) -> None:
    curves, window = [], 1
    for record, history in runs:
        if name not in history or not len(history["env_steps"]):
            continue
        window = 1 if name == "epsilon" else max(1, len(history["env_steps"]) // 40)
        steps = np.asarray(history["env_steps"], np.float64)
        values = smooth(np.asarray(history[name], np.float64), window)
        if record.diverged:
            axis.plot(*thinned(steps, values), ":", lw=1, color=RED, zorder=3)
            continue
        axis.plot(*thinned(steps, values), lw=0.7, alpha=_alpha(len(runs)), color=BLUE)
        curves.append((steps, values))
    if curves:
        smoothed = f", mean of the last {window} iterations" if window > 1 else ""
        label = f"training: seeds and their mean ({_count(cell)}{smoothed})"
        axis.plot(*thinned(*mean_curve(curves)), lw=1.8, color=BLUE, label=label)
    if cell.num_diverged:
        label = f"diverged, not in the mean ({cell.num_diverged})"
        axis.plot([], [], ":", lw=1, color=RED, label=label)


def _draw_evaluations(axis: "Axes", cell: Cell, runs: list[tuple[Record, History]]) -> None:
    curves = [
        (np.asarray(h["eval_env_steps"], np.float64), np.asarray(h["eval_return"], np.float64))
        for record, h in runs
        if not record.diverged and len(h.get("eval_env_steps", ()))
    ]
    if not curves:
        return
    for steps, values in curves:
        axis.plot(steps, values, ".", ms=3, color=ORANGE, alpha=_alpha(len(curves)))
    label = f"greedy evaluation at v = 0: seeds and their mean ({_count(cell)})"
    axis.plot(*mean_curve(curves), "D--", ms=3.5, lw=1, color=RED, label=label)


# Return against level


@default_look()
def grs_curve(records: Iterable[Record], mode: str = HEADLINE_MODE) -> "Figure":
    """J(v) and s(v) of one experiment, with floor, ceiling and the training levels.

    Of several settings one is shown, as in `grs_heatmap`.

    Raises:
        ValueError: no record, or records of several experiments.
    """
    cell, title = _experiment_cell(records)
    figure, ((left, right),) = subplots(1, 2, width=4.6, height=3.9)
    _draw_references(left, cell.records)
    right.axhline(1, color=GREY, lw=1, ls="--")
    right.axhline(0, color=GREY, lw=1, ls=":")
    levels = np.array(levels_of(cell.records))
    label = f"seeds and their mean ({_count(cell)}): {_score_text(cell, mode)}"
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
        axis.plot(levels, curves.T, lw=0.8, color=BLUE, alpha=_alpha(len(curves)))
    axis.plot(levels, curves.mean(axis=0), "o-", lw=2, ms=5, color=BLUE, label=label)


def _score_text(cell: Cell, mode: str) -> str:
    if not cell.finished:
        return "failed"
    head, area = _retention_text(cell, mode), _mean_text(cell, "A", mode)
    return f"{head}, A {area}, literal grs {_literal_text(cell, mode)}"


# All cells


@default_look()
def grs_heatmap(records: Iterable[Record], mode: str = HEADLINE_MODE) -> "Figure":
    """Algorithm x arm, a panel per environment: colour is A, text the scores and n.

    Where several settings of a cell are here, the one with most seeds, then most env steps,
    is shown; full runs go before quick ones.

    Raises:
        ValueError: no record.
    """
    cells = _shown_cells(records)
    environments = sorted({cell.environment for cell in cells}, key=environment_order)
    algorithms = sorted({cell.algorithm for cell in cells}, key=algorithm_order)
    arms = sorted({c.arm for c in cells} | set(SUITES["controls"]), key=arm_order)
    height = max(2.3, 0.75 * len(algorithms) + 0.75)
    figure, axes = subplots(len(environments), 1, 1.45 * len(arms) + 1.6, height)
    image: Any = None
    for axis, environment in zip(axes.flat, environments, strict=True):
        grid = {(c.algorithm, c.arm): c for c in cells if c.environment == environment}
        table = [[grid.get((algorithm, arm)) for arm in arms] for algorithm in algorithms]
        image = _draw_heatmap(axis, table, mode)
        axis.set_title(figure_title(environment), loc="left", fontweight="bold")
        axis.set_xticks(range(len(arms)), [arm.replace("@", "\n@") for arm in arms])
        axis.set_yticks(range(len(algorithms)), [name.upper() for name in algorithms])
    figure.colorbar(image, ax=axes, label="A", shrink=0.8, aspect=30)
    note = (
        f"{mode}; colour: A, absolute robustness; hatched: alias, no evidence of its own; "
        f"{FLAG}: a seed did not learn"
    )
    finish(figure, "Generalisation scores", any(c.quick for c in cells), note)
    return figure


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
    count = _count(cell) + (f" (of {cell.alias_of})" if cell.alias_of else "")
    if not cell.finished:
        return "failed", count
    area, literal = _mean_text(cell, "A", mode), _literal_text(cell, mode)
    return _retention_text(cell, mode), f"A {area}\nliteral {literal}\n{count}"


@default_look()
def degradation(records: Iterable[Record], environment: str, mode: str = HEADLINE_MODE) -> "Figure":
    """Return against level of every arm of an environment, one panel per algorithm.

    Lines are means over seeds, whiskers the range of the seeds, of `MANY_SEEDS` or more their
    middle half. Aliases are not drawn. Of several settings one is shown, as in `grs_heatmap`.

    Raises:
        ValueError: no record of the environment.
    """
    chosen = [record for record in records if record.environment == environment]
    cells = [cell for cell in _shown_cells(chosen) if not cell.alias_of]
    algorithms = sorted({cell.algorithm for cell in cells}, key=algorithm_order)
    width = 3.4 if len(algorithms) > 1 else 5.4
    figure, axes = subplots(1, len(algorithms), width, height=3.9, sharey=True)
    styles = arm_styles(cell.arm for cell in cells)
    for axis, algorithm in zip(axes.flat, algorithms, strict=True):
        group = [cell for cell in cells if cell.algorithm == algorithm]
        _draw_references(axis, [record for cell in group for record in cell.records])
        # Side by side within a tenth of the axis, however many they are.
        step = min(0.018, 0.11 / len(group))
        for i, cell in enumerate(group):
            _draw_arm(axis, cell, mode, styles[cell.arm], (i - (len(group) - 1) / 2) * step)
        axis.set_title(f"{algorithm.upper()} ({_counts(group)})")
        level_axis(axis, ())
    axes.flat[0].set_ylabel(f"mean return ({mode})")
    legend_below(figure, figure.axes, f"means over seeds, whiskers: {_whiskers(cells)}")
    title = f"{figure_title(environment)}: return under shift"
    finish(figure, title, any(cell.quick for cell in cells))
    return figure


def _draw_arm(axis: "Axes", cell: Cell, mode: str, style: Style, offset: float) -> None:
    curves = cell.curves(mode)
    if not len(curves):
        return
    mean = curves.mean(axis=0)
    levels = np.array(levels_of(cell.records)) + offset
    low, high = np.percentile(curves, (25, 75) if len(curves) >= MANY_SEEDS else (0, 100), axis=0)
    # The mean may lie outside the middle half, or by rounding outside the range.
    spread = np.maximum(0, [mean - low, high - mean])
    axis.errorbar(levels, mean, spread, color=style.color, marker=style.marker, ls=style.line,
                  ms=4.5, lw=1.3, elinewidth=0.8, label=cell.arm)  # fmt: skip


def _whiskers(cells: Sequence[Cell]) -> str:
    many = {len(cell.finished) >= MANY_SEEDS for cell in cells}
    names = {True: "middle half of the seeds", False: "range of the seeds"}
    if len(many) > 1:
        return f"{names[True]} (of fewer than {MANY_SEEDS}: their range)"
    return names[many.pop()]


# Parts


def _experiment_cell(records: Iterable[Record]) -> tuple[Cell, str]:
    """The cell to show, and what it is."""
    records = list(records)
    experiments = sorted({record.experiment for record in records})
    if len(experiments) != 1:
        raise ValueError(f"this figure needs records of one experiment; got {experiments}")
    cell = _shown_cells(records)[0]
    alias = f" (alias of {cell.alias_of})" if cell.alias_of else ""
    settings = len({record.name for record in records})
    setting = f" [run {cell.digest}, 1 of {settings} settings]" if settings > 1 else ""
    environment = figure_title(cell.environment)
    return cell, f"{cell.algorithm.upper()} on {environment}, {cell.arm}{alias}{setting}"


def _shown_cells(records: Iterable[Record]) -> list[Cell]:
    """One cell for each (environment, algorithm, arm)."""
    cells = group_cells(records)
    if not cells:
        raise ValueError("this figure needs at least one record; got none")
    largest = {
        (cell.environment, cell.algorithm, cell.arm): cell.name
        for cell in sorted(cells, key=_prominence)
    }
    return [cell for cell in cells if cell.name in largest.values()]


def _prominence(cell: Cell) -> tuple[bool, int, int]:
    steps = cell.records[0].result["env_steps"]["requested"]
    return not cell.quick, len(cell.records), steps


def _draw_references(axis: "Axes", records: Sequence[Record]) -> None:
    finished = [record for record in records if not record.diverged]
    if not finished:
        return
    levels, references = levels_of(finished), finished[0].result["references"]
    axis.plot(levels, references["ceiling"], color=GREY, lw=1, ls="--", label="ceiling")
    axis.plot(levels, references["floor"], color=GREY, lw=1, ls=":", label="random play")


def _retention_text(cell: Cell, mode: str) -> str:
    if not cell.num_valid(mode):
        return "did not learn"
    return f"grs_n {_mean_text(cell, 'grs_n', mode)}"


def _literal_text(cell: Cell, mode: str) -> str:
    flagged = not all(cell.scores("grs_valid", mode).values())
    return _mean_text(cell, "grs", mode) + (f" {FLAG}" if flagged else "")


def _mean_text(cell: Cell, name: str, mode: str) -> str:
    value = _mean_score(cell, name, mode)
    return "null" if np.isnan(value) else f"{value:.2f}"


def _mean_score(cell: Cell | None, name: str, mode: str) -> float:
    values = list(cell.scores(name, mode).values()) if cell else []
    return float(np.mean(values)) if values else np.nan


def _count(cell: Cell) -> str:
    failed = f", {cell.num_diverged} diverged" if cell.num_diverged else ""
    return f"n = {len(cell.records)}{failed}"


def _counts(cells: Sequence[Cell]) -> str:
    counts = sorted({len(cell.records) for cell in cells})
    failed = sum(cell.num_diverged for cell in cells)
    text = f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    return text + (f", {failed} diverged" if failed else "")


def _alpha(num_seeds: int) -> float:
    return float(np.clip(1.5 / num_seeds, 0.12, 0.5))

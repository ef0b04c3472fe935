"""Figures of trainings: reward, losses and evaluations against environment steps."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.evaluation.scores import LEVELS_OOD
from jaxgen.report.shown import (
    alpha_of,
    budget,
    count_words,
    experiment_cell,
    grid_of_arms,
    shown_cells,
)
from jaxgen.report.style import (
    BLUE,
    ORANGE,
    RED,
    Curve,
    arm_styles,
    default_look,
    draw_arm,
    evaluations,
    finish,
    legend_below,
    mean_curve,
    smooth,
    spread_words,
    steps_axis,
    subplots,
    thinned,
)
from jaxgen.results.records import Cell, History, Record
from jaxgen.study.cards import algorithm_title, figure_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Run = tuple[Record, History]


@default_look()
def learning_curves(records: Iterable[Record]) -> "Figure":
    """Reward, loss and, where there is one, epsilon of one experiment against env steps.

    Training reward is smoothed; the greedy evaluations at level 0 are drawn on top. Thin lines
    are seeds, thick lines means over the seeds that did not diverge. Of several settings one is
    shown, as in `shown_cells`.

    Raises:
        ValueError: no record, or records of several experiments.
    """
    cell, title = experiment_cell(records)
    runs = [(record, record.load_history()) for record in cell.records]
    panels = [("reward", "return at training levels"), ("loss", "loss"), ("epsilon", "epsilon")]
    panels = [panel for panel in panels if any(panel[0] in history for _, history in runs)]
    figure, axes = subplots(1, max(1, len(panels)), width=4.2, height=3.4)
    for axis, (name, label) in zip(axes.flat, panels, strict=False):
        _draw_training(axis, cell, runs, name)
        axis.set(xlabel="environment steps", ylabel=label)
        steps_axis(axis)
    _draw_evaluations(axes.flat[0], cell, runs)
    legend_below(figure, axes.flat[:1], _gaps(runs))
    finish(figure, f"{title}: training", cell.quick)
    return figure


@default_look()
def learning_grid(records: Iterable[Record], environment: str) -> "Figure":
    """Return during training of every arm of an environment, a small panel for each.

    Rows are algorithms, columns techniques. Of several settings one is shown, as in `shown_cells`.

    Raises:
        ValueError: no record of the environment.
    """
    figure, axes = grid_of_arms(records, environment)
    everything: list[Run] = []
    for cell, axis in axes:
        runs = [(record, record.load_history()) for record in cell.records]
        everything += runs
        _draw_training(axis, cell, runs, "reward", detailed=False)
        _draw_evaluations(axis, cell, runs, detailed=False)
        steps_axis(axis)
    legend_below(figure, figure.axes, _gaps(everything))
    title = f"{figure_title(environment)}: return during training against environment steps"
    finish(figure, title, any(cell.quick for cell, _ in axes))
    return figure


@default_look()
def generalisation_curves(records: Iterable[Record], environment: str) -> "Figure | None":
    """A_ood during training of every arm of an environment, a panel for each algorithm.

    Means over seeds with their spread. Of several settings one is shown, as in `shown_cells`. None
    where no run was evaluated at the levels of A_ood during training (``--curve-levels``).
    """
    chosen = shown_cells(record for record in records if record.environment == environment)
    curves = {
        (cell.algorithm, cell.arm): found for cell in chosen
        if not cell.alias_of and (found := _generalisation(cell))
    }  # fmt: skip
    if not curves:
        return None
    algorithms = list(dict.fromkeys(algorithm for algorithm, _ in curves))
    figure, axes = subplots(1, len(algorithms), width=4.2, height=3.4, sharey=True)
    styles = arm_styles(arm for _, arm in curves)
    for axis, algorithm in zip(axes.flat, algorithms, strict=True):
        arms = [(arm, seeds) for (own, arm), seeds in curves.items() if own == algorithm]
        for position, (arm, seeds) in enumerate(arms):
            draw_arm(axis, arm, styles[arm], seeds, position)
        group = [cell for cell in chosen if cell.algorithm == algorithm]
        axis.set(xlabel="environment steps")
        axis.set_title(f"{algorithm_title(algorithm)}, {budget(group)}", fontsize=10)
        steps_axis(axis)
    axes.flat[0].set_ylabel("A_ood: s at levels .75 and 1")
    words = spread_words(map(len, curves.values()))
    legend_below(figure, axes.flat, f"means over seeds, bands: {words}")
    title = f"{figure_title(environment)}: generalisation during training"
    finish(figure, title, any(cell.quick for cell in chosen))
    return figure


def _generalisation(cell: Cell) -> list[Curve]:
    """Env steps and A_ood of each seed that was evaluated at those levels, and did not diverge."""
    curves = []
    for record in cell.finished:
        history = record.load_history()
        at_levels = history.get("eval_return_at_levels")
        played = (record.spec.get("evaluation") or {}).get("curve_levels", ())
        if at_levels is None or not set(LEVELS_OOD) <= set(played):
            continue
        levels = list(record.result["evaluation"]["levels"])
        s = []
        for level in LEVELS_OOD:
            place = levels.index(level)
            low, high = (record.result["references"][key][place] for key in ("floor", "ceiling"))
            s.append((at_levels[:, list(played).index(level)] - low) / (high - low))
        curves.append((np.asarray(history["eval_env_steps"], np.float64), np.mean(s, axis=0)))
    return curves


def _gaps(runs: Iterable[Run]) -> str | None:
    """A note on lines of the reward that have gaps; None where none has."""
    rewards = (np.asarray(history.get("reward", ()), np.float64) for _, history in runs)
    gap = any(np.isnan(smooth(reward, _window(len(reward)))).any() for reward in rewards)
    return "Lines of the training return have a gap where no episode ended." if gap else None


def _window(iterations: int) -> int:
    """Iterations over which a curve of so many is smoothed."""
    return max(1, iterations // 40)


def _draw_training(
    axis: "Axes", cell: Cell, runs: list[Run], name: str, detailed: bool = True
) -> None:
    curves, window = [], 1
    for record, history in runs:
        if name not in history or not len(history["env_steps"]):
            continue
        window = 1 if name == "epsilon" else _window(len(history["env_steps"]))
        steps = np.asarray(history["env_steps"], np.float64)
        values = smooth(np.asarray(history[name], np.float64), window)
        if record.diverged:
            axis.plot(*thinned(steps, values), ":", lw=1, color=RED, zorder=3)
            continue
        axis.plot(*thinned(steps, values), lw=0.7, alpha=alpha_of(len(runs)), color=BLUE)
        curves.append((steps, values))
    if curves:
        smoothed = f", mean of the last {window} iterations" if window > 1 else ""
        details = f" ({count_words(cell)}{smoothed})" if detailed else ""
        axis.plot(*thinned(*mean_curve(curves)), lw=1.8, color=BLUE,
                  label=f"training: seeds and their mean{details}")  # fmt: skip
    if cell.num_diverged:
        details = f" ({cell.num_diverged})" if detailed else ""
        axis.plot([], [], ":", lw=1, color=RED, label=f"diverged, not in the mean{details}")


def _draw_evaluations(axis: "Axes", cell: Cell, runs: list[Run], detailed: bool = True) -> None:
    found = [evaluations(history) for record, history in runs if not record.diverged]
    curves = [curve for curve in found if curve is not None]
    if not curves:
        return
    for steps, values in curves:
        axis.plot(steps, values, ".", ms=3, color=ORANGE, alpha=alpha_of(len(curves)))
    details = f" ({count_words(cell)})" if detailed else ""
    axis.plot(*mean_curve(curves), "D--", ms=3.5 if detailed else 2, lw=1, color=RED,
              label=f"greedy evaluation at v = 0: seeds and their mean{details}")  # fmt: skip

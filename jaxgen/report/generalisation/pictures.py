"""Figures of the report, in the styles of `jaxgen.report.figures`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.evaluation.statistics import (
    MARGIN,
    Interval,
    performance_profile,
    probability_of_improvement,
)
from jaxgen.report.generalisation.evidence import (
    PRIMARY,
    Comparison,
    by_place,
    estimate,
    presentable,
    ranked,
    values_of,
)
from jaxgen.report.generalisation.prediction import Predictor, pairs
from jaxgen.report.generalisation.words import arm_name, place
from jaxgen.report.style import (
    BLACK,
    GREY,
    LINE_INCHES,
    ORANGE,
    Style,
    arm_styles,
    default_look,
    draw_arm,
    evaluations,
    finish,
    in_lines,
    legend_below,
    panels,
    spread_words,
    steps_axis,
    subplots,
)
from jaxgen.results.records import Cell, algorithm_order, environment_order
from jaxgen.study.cards import algorithm_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THRESHOLDS = np.linspace(0, 1, 201)


@default_look()
def ranking(cells: Sequence[Cell], score: str) -> "Figure":
    """Every arm of one environment by its mean score: seeds, mean and interval."""
    order = ranked(cells, score)
    figure, ((axis,),) = subplots(1, 1, 6.4, 0.24 * len(order) + 1.1)
    styles = arm_styles(cell.arm for cell in cells)
    for row, cell in enumerate(order):
        values, style = list(values_of(cell, score).values()), styles[cell.arm]
        axis.plot(values, [row] * len(values), "|", ms=5, color=style.color, alpha=0.45)
        _point(axis, estimate(values), row, style)
    _rows(axis, [f"{arm_name(cell)}  (n = {len(cell.records)})" for cell in order])
    axis.set(xlabel=f"{score}: 0 random play, 1 ceiling")
    finish(figure, "", any(cell.quick for cell in cells))
    return figure


@default_look()
def differences(parts: Sequence[tuple[Comparison, str]], quick: bool = False) -> "Figure":
    """Differences of one environment with their intervals; the band is the margin.

    Args:
      parts: comparisons that have a difference, and what each measures, from the top.
      quick: quick runs are among them.
    """
    figure, ((axis,),) = subplots(1, 1, 6.4, 0.27 * len(parts) + 1.1)
    axis.axvspan(-MARGIN, MARGIN, color=ORANGE, alpha=0.2, lw=0)
    axis.axvline(0, color=GREY, lw=1)
    for row, (comparison, _) in enumerate(parts):
        assert comparison.difference is not None
        interval = presentable(comparison.difference.interval, comparison.difference.num_pairs)
        _point(axis, interval, row, Style(BLACK, "o", "-"))
    _rows(axis, [f"{c.algorithm}: {c.label} ({meaning})" for c, meaning in parts])
    axis.set(xlabel=f"difference in {PRIMARY}; band: {MARGIN:g} either way")
    finish(figure, "", quick)
    return figure


@default_look()
def profiles(cells: Sequence[Cell]) -> "Figure":
    """Share of the runs of one environment above each score, a panel per algorithm."""
    by_algorithm = {algorithm: group for (_, algorithm), group in by_place(cells).items()}
    width = 3.2 if len(by_algorithm) > 1 else 5.4
    figure, axes = panels(len(by_algorithm), width, 3.4, sharey=True)
    styles = arm_styles(cell.arm for cell in cells)
    for axis, (algorithm, group) in zip(axes, by_algorithm.items(), strict=True):
        axis.set_title(in_lines(algorithm_title(algorithm)), fontsize=10)
        for i, cell in enumerate(group):
            values = np.array(list(values_of(cell, PRIMARY).values()))
            style = styles[cell.arm]
            share = performance_profile(values, THRESHOLDS)
            # Markers at other places of each arm, so that lines can be told apart in grey.
            axis.step(THRESHOLDS, share, where="post", color=style.color, ls=style.line, lw=1.4,
                      marker=style.marker, ms=4, markevery=(2 + 3 * i, 25),
                      label=cell.arm)  # fmt: skip
        axis.set(xlabel=f"{PRIMARY} above", xlim=(0, 1), ylim=(-0.02, 1.02))
    figure.axes[0].set_ylabel("share of runs")
    legend_below(figure, figure.axes)
    finish(figure, "", any(cell.quick for cell in cells))
    return figure


@default_look()
def improvement(cells: Sequence[Cell]) -> "Figure":
    """How probably a run of each arm beats one of its algorithm's baseline."""
    rows = []
    for algorithm in sorted({cell.algorithm for cell in cells}, key=algorithm_order):
        arms = {cell.arm: cell for cell in cells if cell.algorithm == algorithm}
        rows += [(cell, arms["baseline"]) for name, cell in arms.items()
                 if "baseline" in arms and name != "baseline"]  # fmt: skip
    figure, ((axis,),) = subplots(1, 1, 6.4, 0.24 * max(1, len(rows)) + 1.1)
    styles = arm_styles(cell.arm for cell in cells)
    axis.axvline(0.5, color=GREY, lw=1)
    for row, (cell, other) in enumerate(rows):
        first, second = (list(values_of(c, PRIMARY).values()) for c in (cell, other))
        interval = probability_of_improvement([first], [second])
        fewest = min(len(first), len(second))
        _point(axis, presentable(interval, fewest), row, styles[cell.arm])
    _rows(axis, [arm_name(cell) for cell, _ in rows])
    axis.set(xlabel=f"P(a run's {PRIMARY} is above that of a baseline run)", xlim=(-0.02, 1.02))
    finish(figure, "", any(cell.quick for cell in cells))
    return figure


@default_look()
def learning(titled: Mapping[str, Sequence[tuple[str, Cell]]]) -> "Figure":
    """Greedy return at level 0 during training: mean of each arm, and the spread of its seeds.

    Args:
      titled: title -> labels and cells; a label has one style in all of them.
    """
    figure, axes = panels(len(titled), 3.4 if len(titled) > 1 else 6.4, 3.4, sharey=True)
    styles = arm_styles(label for arms in titled.values() for label, _ in arms)
    counts = []
    for axis, (title, arms) in zip(axes, titled.items(), strict=True):
        for i, (label, cell) in enumerate(arms):
            curves = [evaluations(record.load_history()) for record in cell.finished]
            points = [curve for curve in curves if curve is not None]
            if points:
                counts.append(len(points))
                draw_arm(axis, label, styles[label], points, i)
        axis.set_title(in_lines(title), fontsize=10)
        axis.set(xlabel="environment steps")
        steps_axis(axis)
    axes[0].set_ylabel("greedy return at v = 0")
    legend_below(figure, figure.axes, f"means over seeds, bands: {spread_words(counts or [0])}")
    finish(figure, "", any(cell.quick for arms in titled.values() for _, cell in arms))
    return figure


@default_look()
def agreement(cells: Sequence[Cell], predictor: Predictor) -> "Figure":
    """A predictor of every run against its score, a panel per algorithm and environment."""
    environments = sorted({cell.environment for cell in cells}, key=environment_order)
    algorithms = sorted({cell.algorithm for cell in cells}, key=algorithm_order)
    figure, axes = subplots(len(environments), len(algorithms), 3.2, 2.9)
    styles = arm_styles(cell.arm for cell in cells)
    for i, environment in enumerate(environments):
        for j, algorithm in enumerate(algorithms):
            axis = axes[i, j]
            for cell in cells:
                if (cell.environment, cell.algorithm) == (environment, algorithm):
                    style = styles[cell.arm]
                    axis.plot(*pairs(cell, predictor), style.marker, ms=4, color=style.color,
                              alpha=0.6, mew=0, label=cell.arm)  # fmt: skip
            if not axis.lines:
                axis.text(0.5, 0.5, "no runs", ha="center", transform=axis.transAxes)
            axis.set_title(in_lines(place(algorithm, environment)), fontsize=9)
            axis.set(xlabel=predictor.name if i == len(environments) - 1 else "")
            axis.locator_params(nbins=5)
        axes[i, 0].set_ylabel(PRIMARY)
    legend_below(figure, figure.axes)
    finish(figure, "", any(cell.quick for cell in cells))
    return figure


def _point(axis: "Axes", interval: Interval | None, row: int, style: Style) -> None:
    if interval is None:
        return
    if np.isfinite(interval.low):
        axis.plot([interval.low, interval.high], [row, row], "-", lw=1.6, color=style.color)
    axis.plot(interval.estimate, row, style.marker, ms=5.5, color=style.color,
              markeredgecolor=BLACK, mew=0.6)  # fmt: skip


def _rows(axis: "Axes", labels: Sequence[str]) -> None:
    texts = [in_lines(label) for label in labels]
    more = LINE_INCHES * sum(text.count("\n") for text in texts)
    axis.figure.set_figheight(axis.figure.get_figheight() + more)  # pyright: ignore
    axis.set_yticks(range(len(labels)), texts, fontsize=8)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.grid(axis="y", lw=0.4, color="#dddddd")
    axis.set_axisbelow(True)

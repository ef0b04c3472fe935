"""Figures over the parents of a study of connectivity."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.evaluation.connectivity.verdict import MARGIN
from jaxgen.report.connectivity.measures import Row, by_parent
from jaxgen.report.style import GREY, RED, default_look, finish, subplots
from jaxgen.results.lines import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^Dvph"


@default_look()
def instability_over_time(rows: Sequence[Row], title: str) -> "Figure":
    """Barrier, and the specified instability, by the point at which parents forked; what has no
    point is a horizontal line."""
    figure, ((*axes,),) = subplots(1, 2, 4.4, 3.3)
    for axis, measure in zip(axes, ("barrier", "instability"), strict=True):
        _by_point(axis, rows, measure)
    axes[0].set_ylabel("barrier, share of the scale")
    axes[0].axhline(MARGIN, color=GREY, linestyle=":", linewidth=1)
    axes[1].set_ylabel("specified instability, return")
    axes[0].legend(frameon=False, fontsize=8)
    finish(figure, title, any(row["quick"] for row in rows))
    return figure


@default_look()
def policy_and_critic(rows: Sequence[Row], title: str) -> "Figure":
    """Barrier of the policy's line, and rise of the TD error on the critic's and on both."""
    figure, ((*axes,),) = subplots(1, 3, 3.8, 3.3)
    words = {
        "barrier": "policy: barrier, share of the scale", "td_rise": "critic: rise of TD error",
        "td_rise_both": "both: rise of TD error",
    }  # fmt: skip
    for axis, (measure, label) in zip(axes, words.items(), strict=True):
        _by_point(axis, rows, measure)
        axis.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=8)
    finish(figure, title, any(row["quick"] for row in rows))
    return figure


def _by_point(axis: "Axes", rows: Sequence[Row], measure: str) -> None:
    """Means over parents with their standard errors, for each strategy."""
    for number, strategy in enumerate(dict.fromkeys(row["strategy"] for row in rows)):
        own = [row for row in rows if row["strategy"] == strategy]
        cells = {
            key.point: list(values.values())
            for key, values in by_parent(own, measure).items() if values
        }  # fmt: skip
        color = f"C{number % 10}"
        if None in cells:
            axis.axhline(float(np.mean(cells.pop(None))), color=color, linestyle="--",
                         linewidth=1, label=strategy)  # fmt: skip
        points = sorted(point for point in cells if point is not None)
        if points:
            axis.errorbar(
                points, [np.mean(cells[point]) for point in points],
                [_error(cells[point]) for point in points], color=color,
                marker=MARKERS[number % len(MARKERS)], linewidth=1.2, markersize=4, label=strategy,
            )  # fmt: skip
    axis.set_xlabel("forked at, share of training")


@default_look()
def heat_map(rows: Sequence[Row], title: str) -> "Figure":
    """Mean barriers by fork point and strategy."""
    cells = {key: values for key, values in by_parent(rows).items() if values}
    points = sorted({key.point for key in cells if key.point is not None})
    strategies = list(dict.fromkeys(key.strategy for key in cells))
    table = np.full((len(strategies), len(points)), np.nan)
    for key, values in cells.items():
        if key.point is not None:
            place = strategies.index(key.strategy), points.index(key.point)
            table[place] = np.mean([*values.values()])
    figure, ((axis,),) = subplots(1, 1, 0.62 * len(points) + 2.2, 0.5 * len(strategies) + 1.4)
    most = max(MARGIN, float(np.nanmax(table)))
    image = axis.imshow(table, cmap="viridis", aspect="auto", vmin=0, vmax=most)
    axis.set_xticks(range(len(points)), [f"{point:g}" for point in points])
    axis.set_yticks(range(len(strategies)), strategies)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            light = value < 0.6 * most
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if light else "black")  # fmt: skip
    axis.set_xlabel("forked at, share of training")
    figure.colorbar(image, ax=axis, label="barrier")
    finish(figure, title, any(row["quick"] for row in rows))
    return figure


@default_look()
def distance_and_barrier(rows: Sequence[Row], title: str) -> "Figure":
    """Every pair: how far its ends are apart, and its barrier."""
    figure, ((axis,),) = subplots(1, 1, 4.8, 3.4)
    for number, strategy in enumerate(dict.fromkeys(row["strategy"] for row in rows)):
        own = [row for row in rows if row["strategy"] == strategy]
        axis.plot([row["distance"] for row in own], [row["barrier"] for row in own],
                  MARKERS[number % len(MARKERS)], markersize=4, alpha=0.7,
                  label=strategy)  # fmt: skip
    axis.axhline(0, color=RED, linewidth=0.8)
    axis.set(xlabel="distance of the ends (L2)", ylabel="barrier, share of the scale")
    axis.legend(frameon=False, fontsize=8)
    finish(figure, title, any(row["quick"] for row in rows))
    return figure


@default_look()
def levels_along(lines: Sequence[Line], title: str) -> "Figure":
    """Mean fall below the straight line between the ends, along the line and by level; a panel for
    each strategy, of all its points."""
    strategies = list(dict.fromkeys(line.meta["strategy"] for line in lines))
    figure, ((*axes,),) = subplots(1, len(strategies), 3.6, 3.0, sharey=True)
    levels, alphas = lines[0].meta["levels"], np.asarray(lines[0].meta["alphas"])
    tables = []
    for strategy in strategies:
        own = [line for line in lines if line.meta["strategy"] == strategy]
        tables.append(np.mean([_falls(line, alphas) for line in own], axis=0).T)
    most = max(MARGIN, *(float(abs(table).max()) for table in tables))
    image = None
    for axis, strategy, table in zip(axes, strategies, tables, strict=True):
        image = axis.imshow(table, cmap="RdBu_r", aspect="auto", vmin=-most, vmax=most,
                            origin="lower", extent=(0, 1, -0.5, len(levels) - 0.5))  # fmt: skip
        axis.set_yticks(range(len(levels)), [f"{level:g}" for level in levels])
        axis.set_title(strategy, fontsize=10)
        axis.set_xlabel("share of the second end")
    axes[0].set_ylabel("level")
    assert image is not None
    figure.colorbar(image, ax=list(axes), label="fall below the ends' line")
    finish(figure, title, any(line.meta["quick"] for line in lines))
    return figure


def _falls(line: Line, alphas: np.ndarray) -> np.ndarray:
    """Falls in shares of the scale, ``[A, K]``."""
    mean, share = line.returns.mean(2, dtype=np.float64), alphas[:, None]
    straight = (1 - share) * mean[:1] + share * mean[-1:]
    return (straight - mean) / (line.ceiling - line.floor)


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0

"""Figures of lines: a parent's, those of a fork point, and all cells of a study."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.evaluation.connectivity.verdict import MARGIN
from jaxgen.report.connectivity.measures import Row, by_parent
from jaxgen.report.style import BLUE, GREY, RED, default_look, finish, subplots
from jaxgen.results.lines import Line
from jaxgen.study.cards import algorithm_title, figure_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@default_look()
def interpolation(line: Line) -> "Figure":
    """Return along one line with its standard errors, and the straight line between its ends."""
    figure, ((axis,),) = subplots(1, 1, 5.2, 3.4)
    _draw(axis, line, BLUE, "return on the line")
    meta = line.meta
    axis.set(xlabel="share of the second fork", ylabel=f"return at level {meta['levels'][0]:g}")
    axis.legend(frameon=False, fontsize=8)
    forked = f"forked at {meta['point']:g} ({meta['replay']})"
    finish(figure, f"{title_of(line)}, {forked}", meta["quick"])
    return figure


@default_look()
def all_interpolations(lines: Sequence[Line]) -> "Figure":
    """The lines of a parent beside each other, a panel for each replay, a colour for each point."""
    replays = list(dict.fromkeys(line.meta["replay"] for line in lines))
    figure, ((*axes,),) = subplots(1, len(replays), 4.2, 3.4, sharey=True)
    for axis, replay in zip(axes, replays, strict=True):
        own = [line for line in lines if line.meta["replay"] == replay]
        for line in own:
            _draw(axis, line, _shade(line.meta["point"]), f"{line.meta['point']:g}")
        axis.set_title(replay, fontsize=10)
        axis.set_xlabel("share of the second fork")
    axes[0].set_ylabel("return")
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", title="forked at", frameon=False, fontsize=8
    )
    finish(figure, title_of(lines[0]), any(line.meta["quick"] for line in lines))
    return figure


@default_look()
def instability_over_time(rows: Sequence[Row], title: str) -> "Figure":
    """Barrier, and the specified instability, by the point at which parents forked."""
    replays = list(dict.fromkeys(row["replay"] for row in rows))
    figure, ((*axes,),) = subplots(1, 2, 4.4, 3.3)
    for number, replay in enumerate(replays):
        own = [row for row in rows if row["replay"] == replay]
        for axis, measure in zip(axes, ("barrier", "instability"), strict=True):
            cells = {
                key.point: list(values.values())
                for key, values in by_parent(own, measure).items() if values
            }  # fmt: skip
            points = sorted(cells)
            means = [np.mean(cells[point]) for point in points]
            spread = [_error(cells[point]) for point in points]
            axis.errorbar(
                points, means, spread, marker="os^Dv"[number % 5], linewidth=1.2, markersize=4,
                label=replay,
            )  # fmt: skip
    axes[0].set(xlabel="forked at, share of training", ylabel="barrier, share of the scale")
    axes[0].axhline(MARGIN, color=GREY, linestyle=":", linewidth=1)
    axes[1].set(xlabel="forked at, share of training", ylabel="specified instability, return")
    axes[0].legend(frameon=False, fontsize=8)
    finish(figure, title, any(row["quick"] for row in rows))
    return figure


@default_look()
def heat_map(rows: Sequence[Row], title: str) -> "Figure":
    """Mean barriers by fork point and replay."""
    cells = {key: values for key, values in by_parent(rows).items() if values}
    points = sorted({key.point for key in cells})
    replays = list(dict.fromkeys(key.replay for key in cells))
    table = np.full((len(replays), len(points)), np.nan)
    for key, values in cells.items():
        table[replays.index(key.replay), points.index(key.point)] = np.mean([*values.values()])
    figure, ((axis,),) = subplots(1, 1, 0.62 * len(points) + 2.2, 0.5 * len(replays) + 1.4)
    most = max(MARGIN, float(np.nanmax(table)))
    image = axis.imshow(table, cmap="viridis", aspect="auto", vmin=0, vmax=most)
    axis.set_xticks(range(len(points)), [f"{point:g}" for point in points])
    axis.set_yticks(range(len(replays)), replays)
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
    for number, replay in enumerate(dict.fromkeys(row["replay"] for row in rows)):
        own = [row for row in rows if row["replay"] == replay and row["learned"]]
        axis.plot([row["distance"] for row in own], [row["barrier"] for row in own],
                  "os^Dv"[number % 5], markersize=4, alpha=0.7, label=replay)  # fmt: skip
    axis.axhline(0, color=RED, linewidth=0.8)
    axis.set(xlabel="distance of the ends (L2)", ylabel="barrier, share of the scale")
    axis.legend(frameon=False, fontsize=8)
    finish(figure, title, any(row["quick"] for row in rows))
    return figure


def _draw(axis: "Axes", line: Line, color: object, label: str) -> None:
    """The first level of a line."""
    alphas, returns = line.meta["alphas"], line.returns[:, 0].astype(np.float64)
    mean = returns.mean(1)
    error = returns.std(1, ddof=1) / np.sqrt(returns.shape[1])
    axis.fill_between(alphas, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)  # pyright: ignore
    axis.plot(alphas, mean, color=color, linewidth=1.3, label=label)  # pyright: ignore
    axis.plot([0, 1], mean[[0, -1]], color=GREY, linestyle=":", linewidth=0.9)


def _shade(point: float) -> tuple[float, float, float]:
    """Darker the later the fork."""
    return (0.85 - 0.8 * point, 0.55 - 0.35 * point, 0.25 + 0.45 * point)


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def title_of(line: Line) -> str:
    """The parent of a line in words."""
    meta = line.meta
    place = f"{algorithm_title(meta['algorithm'])} on {figure_title(meta['environment'])}"
    return f"{place}, {meta['arm']}, seed {meta['seed']}"

"""Figures of a parent's lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.report.style import BLUE, GREY, default_look, finish, subplots
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
    axis.set(xlabel="share of the second end", ylabel=f"return at level {meta['levels'][0]:g}")
    axis.legend(frameon=False, fontsize=8)
    place = "" if meta["point"] is None else f"forked at {meta['point']:g}, "
    finish(figure, f"{title_of(line)}, {place}{meta['strategy']}", meta["quick"])
    return figure


@default_look()
def all_interpolations(lines: Sequence[Line]) -> "Figure":
    """The lines of a parent beside each other, a panel for each strategy, a colour for each
    point."""
    strategies = list(dict.fromkeys(line.meta["strategy"] for line in lines))
    figure, ((*axes,),) = subplots(1, len(strategies), 3.6, 3.4, sharey=True)
    handles = {}
    for axis, strategy in zip(axes, strategies, strict=True):
        for line in lines:
            if line.meta["strategy"] == strategy:
                point = line.meta["point"]
                label = "-" if point is None else f"{point:g}"
                handles[label] = _draw(axis, line, _shade(point or 0.0), label)
        axis.set_title(strategy, fontsize=10)
        axis.set_xlabel("share of the second end")
    axes[0].set_ylabel("return")
    figure.legend(
        list(handles.values()), list(handles), loc="outside right center", title="forked at",
        frameon=False, fontsize=8,
    )  # fmt: skip
    finish(figure, title_of(lines[0]), any(line.meta["quick"] for line in lines))
    return figure


def _draw(axis: "Axes", line: Line, color: object, label: str) -> object:
    """Draw the first level of a line; return what a legend shows."""
    alphas, returns = line.meta["alphas"], line.returns[:, 0].astype(np.float64)
    mean = returns.mean(1)
    error = returns.std(1, ddof=1) / np.sqrt(returns.shape[1])
    axis.fill_between(alphas, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)  # pyright: ignore
    (drawn,) = axis.plot(alphas, mean, color=color, linewidth=1.3, label=label)  # pyright: ignore
    axis.plot([0, 1], mean[[0, -1]], color=GREY, linestyle=":", linewidth=0.9)
    return drawn


def _shade(point: float) -> tuple[float, float, float]:
    """Darker the later the fork."""
    return (0.85 - 0.8 * point, 0.55 - 0.35 * point, 0.25 + 0.45 * point)


def title_of(line: Line) -> str:
    """The parent of a line in words."""
    meta = line.meta
    place = f"{algorithm_title(meta['algorithm'])} on {figure_title(meta['environment'])}"
    return f"{place}, {meta['arm']}, seed {meta['seed']}"

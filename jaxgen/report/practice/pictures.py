"""Pictures of one training's course: episodes at its checkpoints, and its learning curve."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxgen.evaluation.statistics import half_width
from jaxgen.report.style import (
    BLUE,
    GREY,
    ORANGE,
    arm_styles,
    default_look,
    finish,
    in_lines,
    stacked_curves,
    steps_axis,
    subplots,
)
from jaxgen.report.style import Curve as Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 6.0, 3.8
"""Width and height in inches."""
NUM_BINS = 20
RANDOM, TRAINED = "random play", "trained"


class Titled(NamedTuple):
    """Words that a picture's figures share."""

    title: str
    quick: bool = False


class Curve(NamedTuple):
    """A learning curve as it was evaluated."""

    steps: np.ndarray
    """Env steps at the points, ``[P]``."""
    returns: np.ndarray
    """Of each point's episodes, ``[P, E]``."""


@default_look()
def boxplot(trained: np.ndarray, random: np.ndarray, words: Titled) -> "Figure":
    """Returns ``[E]`` of an agent beside those of random play on the same episodes."""
    figure, axes = subplots(1, 1, *SIZE)
    axis = axes[0, 0]
    boxes = axis.boxplot([random, trained], tick_labels=[RANDOM, TRAINED], patch_artist=True,
                         widths=0.5, medianprops={"color": "black"})  # fmt: skip
    for box, color in zip(boxes["boxes"], (GREY, BLUE), strict=True):
        box.set(facecolor=color, alpha=0.5)
    axis.set_ylabel("return of an episode")
    note = f"{len(trained)} episodes each, from the same starts; box: quartiles, line: median"
    finish(figure, words.title, words.quick, note)
    return figure


@default_look()
def histogram(trained: np.ndarray, words: Titled) -> "Figure":
    """Returns ``[E]`` of an agent, with their mean and median."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = subplots(1, 1, *SIZE)
    axis = axes[0, 0]
    axis.hist(trained, bins=NUM_BINS, color=BLUE, alpha=0.6)
    axis.axvline(trained.mean(), color=ORANGE, label=f"mean {trained.mean():.5g}")
    median = np.median(trained)
    axis.axvline(median, color="black", ls="--", label=f"median {median:.5g}")
    axis.set(xlabel="return of an episode", ylabel="episodes")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    finish(figure, words.title, words.quick, f"{len(trained)} episodes")
    return figure


@default_look()
def learning_curve(curves: Sequence[Curve], words: Titled, random: np.ndarray | None = None,
                   limit: float | None = None) -> "Figure":  # fmt: skip
    """The learning curve of one seed with the deviation of its episodes, or of several seeds.

    Args:
      curves: one for each seed.
      words: title.
      random: returns of random play ``[E]``, whose mean and deviation are drawn as a band.
      limit: env steps where the axis ends; None: where the curves do.
    """
    figure, axes = subplots(1, 1, *SIZE)
    axis = axes[0, 0]
    note = _one_seed(axis, curves[0]) if len(curves) == 1 else _seeds(axis, curves)
    if random is not None:
        mean, deviation = random.mean(), random.std()
        axis.axhline(mean, color=GREY, ls="--", label=RANDOM)
        axis.axhspan(mean - deviation, mean + deviation, color=GREY, alpha=0.2, lw=0)
        note += f"\n{RANDOM}: {len(random)} episodes, mean +- deviation"
    steps_axis(axis)
    if limit is not None:
        axis.set_xlim(0, limit)
    axis.set(xlabel="env steps", ylabel="return (greedy)")
    figure.legend(frameon=False, loc="outside right upper")
    finish(figure, words.title, words.quick, note)
    return figure


def _one_seed(axis: "Axes", curve: Curve) -> str:
    mean, deviation = curve.returns.mean(1), curve.returns.std(1)
    axis.fill_between(curve.steps, mean - deviation, mean + deviation, color=BLUE, alpha=0.15, lw=0)
    axis.plot(curve.steps, mean, color=BLUE, marker="o", ms=3, label=TRAINED)
    return f"one seed, {curve.returns.shape[1]} episodes a point: mean +- deviation over episodes"


def _seeds(axis: "Axes", curves: Sequence[Curve]) -> str:
    """Mean, deviation and range over seeds at the points that all of them have."""
    shared = sorted(set.intersection(*(set(curve.steps.tolist()) for curve in curves)))
    means = np.array([
        [curve.returns[list(curve.steps).index(step)].mean() for step in shared]
        for curve in curves
    ])  # fmt: skip
    for each in means:
        axis.plot(shared, each, color=BLUE, lw=0.6, alpha=0.4)
    mean, deviation = means.mean(0), means.std(0, ddof=1)
    axis.fill_between(shared, means.min(0), means.max(0), color=BLUE, alpha=0.1, lw=0)
    axis.fill_between(shared, mean - deviation, mean + deviation, color=BLUE, alpha=0.2, lw=0)
    axis.plot(shared, mean, color=BLUE, marker="o", ms=3, label=f"mean of {len(curves)} seeds")
    return f"{len(curves)} seeds: mean, deviation (dark), range (pale) and each of them"


@default_look()
def checkpoint_means(
    names: Sequence[str], returns: Sequence[np.ndarray], random: np.ndarray, words: Titled
) -> "Figure":
    """Mean returns at the checkpoints.

    Args:
      names: of the checkpoints.
      returns: at each of them, ``[S, E]``: of one seed with the deviation of its episodes, of
        several with a 95 % t interval of their means.
      random: returns of random play, ``[E]``.
      words: title.
    """
    figure, axes = subplots(1, 1, *SIZE)
    axis, num_seeds = axes[0, 0], len(returns[0])
    means = [float(each.mean()) for each in returns]
    if num_seeds == 1:
        errors = [float(each.std()) for each in returns]
        note = f"one seed, {returns[0].shape[1]} episodes: mean +- deviation over episodes"
    else:
        errors = [half_width(each.mean(1)) for each in returns]
        note = f"{num_seeds} seeds, {returns[0].shape[1]} episodes each: 95 % t interval of seeds"
    labels = [f"{name}\n{mean:.5g}" for name, mean in zip(names, means, strict=True)]
    axis.bar(labels, means, yerr=errors, color=BLUE, alpha=0.6, capsize=4)
    axis.axhline(random.mean(), color=GREY, ls="--", label=RANDOM)
    axis.set(xlabel="share of training, and the mean", ylabel="mean return (greedy)")
    figure.legend(frameon=False, loc="outside right upper")
    finish(figure, words.title, words.quick, note)
    return figure


@default_look()
def draw_curves(
    arms: Mapping[str, Sequence[Series]], title: str, quick: bool, limit: float | None = None
) -> "Figure":
    """Learning curves over seeds: mean, one deviation (dark) and range (pale) of each arm.

    Args:
      arms: label -> env steps and mean greedy returns of its seeds.
      title: of the figure.
      quick: whether the runs are no result.
      limit: env steps where the axis ends; None: where the curves do.
    """
    figure, axes = subplots(1, 1, 6.4, 4.0)
    axis = axes[0, 0]
    for (label, own), style in zip(arms.items(), _styles(len(arms)), strict=True):
        steps, values = stacked_curves(own)
        mean = values.mean(0)
        if len(own) > 1:
            deviation = values.std(0, ddof=1)
            axis.fill_between(steps, values.min(0), values.max(0), color=style.color, alpha=0.08,
                              lw=0)  # fmt: skip
            axis.fill_between(steps, mean - deviation, mean + deviation, color=style.color,
                              alpha=0.18, lw=0)  # fmt: skip
        axis.plot(steps, mean, color=style.color, ls=style.line, marker=style.marker, ms=3,
                  label=in_lines(f"{label} (n={len(own)})"))  # fmt: skip
    steps_axis(axis)
    if limit is not None:
        axis.set_xlim(0, limit)
    axis.set(xlabel="env steps", ylabel="return (greedy)")
    figure.legend(frameon=False, loc="outside right upper", fontsize=8)
    finish(figure, title, quick, "mean over n seeds, one deviation (dark) and range (pale)")
    return figure


def _styles(number: int) -> list[Any]:
    styles = arm_styles([f"{place:03d}" for place in range(number)])
    return [styles[f"{place:03d}"] for place in range(number)]

"""How figures look: colours of arms, axes, legends, sizes."""

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxgen.results.records import Array, arm_order
from jaxgen.system.files import write_bytes
from jaxgen.techniques import STUDIED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00",
    "purple": "#CC79A7", "sky": "#56B4E9", "black": "#000000", "grey": "#777777",
}  # fmt: skip
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, GREY = COLORS.values()

QUICK_BANNER = "!!! QUICK RUN: NOT A RESULT !!!"
FLAG = "!"
"""Marks a literal score that must not be read as robustness."""
DPI = 150
MANY_SEEDS = 6
"""Seeds from which on whiskers show the middle half of the seeds, not their range."""
CEILING, RANDOM_PLAY = "ceiling", "random play"
TRAINING_LEVELS, ANY_TRAINING_LEVELS = "training levels", "levels that an arm trains on"
NOT_ARMS = (CEILING, RANDOM_PLAY, TRAINING_LEVELS, ANY_TRAINING_LEVELS)
"""Labels that stand behind all arms in a legend."""
LEVEL_LIMITS = (-0.06, 1.06)
"""Ends of an axis of variation levels."""
MAX_COLUMNS = 4
"""Panels beside each other in a figure with a panel per algorithm."""
MAX_DRAWN = 1000
"""Points drawn of a series; a panel is not wider than that in pixels."""


class Style(NamedTuple):
    """How an arm is drawn."""

    color: str
    marker: str
    line: Any
    """A line style of matplotlib."""


_LINES = {"solid": "-", "dashed": (0, (4, 2)), "dotted": ":", "dashdot": "-."}
STYLES = {
    name: Style(COLORS[studied.color], studied.marker, _LINES[studied.line])
    for name, studied in STUDIED.items()
}
"""Styles of the techniques of the generalisation study."""
_OTHER_STYLES = (
    Style(SKY, "d", ":"), Style(RED, "8", "-."), Style(BLACK, "H", ":"), Style(GREEN, "o", "-"),
    Style(PURPLE, "s", "--"), Style(BLUE, "v", "-."), Style(ORANGE, "D", "--"),
    Style(GREY, "P", "-"), Style(SKY, "^", "-"), Style(RED, "X", "--"),
)  # fmt: skip


@contextmanager
def default_look() -> Iterator[None]:
    """Draw with matplotlib's own defaults, while the block or the decorated function runs.

    Whatever a user's matplotlibrc, style or backend says; it counts again afterwards.
    """
    matplotlib = _matplotlib()
    defaults = matplotlib.rcParamsDefault.items()
    with matplotlib.rc_context({name: value for name, value in defaults if name != "backend"}):
        yield


def _matplotlib() -> Any:
    """The module, imported even where MPLBACKEND names no backend that there is: none is needed."""
    if "matplotlib" in sys.modules or "MPLBACKEND" not in os.environ:
        return import_module("matplotlib")
    backend = os.environ.pop("MPLBACKEND")
    try:
        matplotlib = import_module("matplotlib")
    finally:
        os.environ["MPLBACKEND"] = backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
    return matplotlib


@default_look()
def to_png(figure: "Figure") -> bytes:
    """A PNG whose bytes depend on the figure alone."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, format="png", metadata={"Software": None})
    return stream.getvalue()


def save(figure: "Figure", path: str | os.PathLike[str]) -> Path:
    """Write `to_png` to a file, which appears whole or not at all; creates its folder."""
    path = Path(path)
    write_bytes(path, to_png(figure))
    return path


def smooth(values: Array, window: int) -> Array:
    """Mean of the finite ones among the last ``window`` of ``values`` [I]; NaN if none is."""
    finite = np.isfinite(values)
    totals, counts = (
        np.convolve(x, np.ones(window))[: len(values)]
        for x in (np.where(finite, values, 0.0), finite.astype(np.float64))
    )
    return np.divide(totals, counts, out=np.full(len(values), np.nan), where=counts > 0)


Curve = tuple[Array, Array]
"""Steps, and values at them."""


def stacked_curves(curves: Sequence[Curve]) -> Curve:
    """Values of all seeds [seeds, points] at the steps of the longest, as far as all of them go."""
    steps = max((steps for steps, _ in curves), key=len)
    steps = steps[steps <= min(at[-1] for at, _ in curves)]
    return steps, np.stack([np.interp(steps, at, values) for at, values in curves])


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over seeds at the steps of the longest; ends where the first seed ends."""
    steps, stacked = stacked_curves(curves)
    counts = np.isfinite(stacked).sum(axis=0)
    total = np.where(np.isfinite(stacked), stacked, 0).sum(axis=0)
    mean = np.divide(total, counts, out=np.full(len(steps), np.nan), where=counts > 0)
    return steps, mean


def evaluations(history: Mapping[str, Array]) -> Curve | None:
    """The greedy return at level 0 during a training; None where there is none.

    The last evaluation may follow the one before it at once. That one is left out: two points at
    nearly the same step look like a hook.
    """
    names = ("eval_env_steps", "eval_return")
    steps, values = (np.asarray(history.get(name, ()), np.float64) for name in names)
    if len(steps) > 2 and steps[-1] - steps[-2] < np.median(np.diff(steps)) / 2:
        steps, values = (np.delete(array, -2) for array in (steps, values))
    return (steps, values) if len(steps) else None


def spread(values: Array) -> tuple[Array, Array]:
    """Low and high ends over seeds [seeds, points]: of `MANY_SEEDS` or more their middle half."""
    shares = (25, 75) if len(values) >= MANY_SEEDS else (0, 100)
    low, high = np.full((2, values.shape[1]), np.nan)
    known = np.isfinite(values).any(axis=0)
    low[known], high[known] = np.nanpercentile(values[:, known], shares, axis=0)
    return low, high


def draw_arm(
    axis: "Axes", label: str, style: Style, curves: Sequence[Curve], position: int = 0
) -> None:
    """The mean of an arm's seeds with their spread.

    Args:
      axis: where.
      label: of the arm.
      style: of the arm.
      curves: one or more seeds.
      position: among the arms; every fifth point has a marker, in turn.
    """
    steps, values = stacked_curves(curves)
    axis.fill_between(steps, *spread(values), color=style.color, alpha=0.12, lw=0)
    axis.plot(*mean_curve(curves), color=style.color, ls=style.line, lw=1.4, ms=4,
              marker=style.marker, markevery=(position % 5, 5), label=label)  # fmt: skip


def spread_words(counts: Iterable[int]) -> str:
    """Words for what `spread` shows of so many seeds."""
    many = {count >= MANY_SEEDS for count in counts}
    names = {True: "middle half of the seeds", False: "range of the seeds"}
    if len(many) > 1:
        return f"{names[True]} (of fewer than {MANY_SEEDS}: their range)"
    return names[many.pop()]


def thinned(steps: Array, values: Array) -> Curve:
    """A series thinned to about `MAX_DRAWN` points at most."""
    stride = max(1, len(steps) // MAX_DRAWN)
    return steps[::stride], values[::stride]


def arm_styles(arms: Iterable[str]) -> dict[str, Style]:
    """A style for each arm; those outside the study share a few, in order of name."""
    others = sorted(set(arms) - STYLES.keys())
    extra = {name: _OTHER_STYLES[i % len(_OTHER_STYLES)] for i, name in enumerate(others)}
    return STYLES | extra


def level_axis(
    axis: "Axes", training_levels: Iterable[float], label: str = TRAINING_LEVELS
) -> None:
    """An axis of variation levels, with those of training marked."""
    axis.set(xlabel="variation level v", xlim=LEVEL_LIMITS)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    for i, level in enumerate(sorted(set(training_levels))):
        axis.axvline(level, color=ORANGE, lw=6, alpha=0.25, zorder=0,
                     label=None if i else label)  # fmt: skip


def steps_axis(axis: "Axes") -> None:
    """Few ticks, in k and M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(5))


def subplots(
    num_rows: int, num_columns: int, width: float, height: float, **kwargs: Any
) -> tuple["Figure", Any]:
    """A figure without pyplot and its axes [rows, columns]; sizes in inches per panel."""
    from matplotlib.figure import Figure

    figure = Figure((width * num_columns, height * num_rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def panels(
    number: int, width: float, height: float, **kwargs: Any
) -> tuple["Figure", list["Axes"]]:
    """A figure with so many panels, at most `MAX_COLUMNS` beside each other."""
    columns = max(1, min(number, MAX_COLUMNS))
    figure, axes = subplots(max(1, -(-number // columns)), columns, width, height, **kwargs)
    for axis in axes.flat[max(1, number) :]:
        axis.remove()
    return figure, list(axes.flat[: max(1, number)])


USUAL_ROWS, ROW_INCHES = 6, 0.25
"""Rows of a legend for which a figure has room, and the height of a further one."""


LABEL_WIDTH, LINE_INCHES = 40, 0.14
"""Letters of a line of a label, and the height of a further line."""


def in_lines(label: str) -> str:
    """A long name on several lines, broken before the settings that follow an @."""
    lines = [""]
    for number, part in enumerate(label.split("@")):
        part = part if number == 0 else f"@{part}"
        if lines[-1] and len(lines[-1]) + len(part) > LABEL_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def legend_below(figure: "Figure", axes: Iterable["Axes"], title: str | None = None) -> None:
    """One legend for several axes, each label once: arms in their order, then the others."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: (label in NOT_ARMS, arm_order(label)[0]))
    texts = [in_lines(label) for label in labels]
    lines = [line for text in texts for line in text.split("\n")]
    widest = 0.08 * max(map(len, lines), default=0) + 0.7
    columns = int(np.clip(figure.get_figwidth() / widest, 1, 4))
    # Many arms make the figure higher: they leave no room for the axes otherwise.
    more_rows = max(0, -(-len(labels) // columns) - USUAL_ROWS)
    more_lines = -(-(len(lines) - len(labels)) // columns)
    more = ROW_INCHES * more_rows + LINE_INCHES * more_lines
    figure.set_figheight(figure.get_figheight() + more)
    figure.legend(
        [handles[label] for label in labels],
        texts,
        loc="outside lower center",
        frameon=False,
        ncols=columns,
        title=title,
        fontsize=8.5,
        title_fontsize=8.5,
    )


def finish(figure: "Figure", title: str, quick: bool, note: str = "") -> None:
    """Add what all figures have, and lay the figure out once and for all."""
    figure.suptitle(in_lines(title), fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=8, color="#444444")
    if quick:
        width, height = figure.get_size_inches()
        slope = 0.7 * np.degrees(np.arctan2(height, width))
        # A bold letter is about .65 of the font's size wide, which is 1/72 inch per point.
        size = 0.8 * 72 * width / (0.65 * len(QUICK_BANNER))
        figure.text(0.5, 0.5, QUICK_BANNER, rotation=slope, fontsize=size, color=RED, alpha=0.35,
                    ha="center", va="center", fontweight="bold", zorder=10)  # fmt: skip
    # Laid out once, here: a figure that keeps its engine is laid out and drawn again at every save.
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine(None)

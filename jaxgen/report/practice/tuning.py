"""The files of a search for hyper-parameters: trials, figures, and what they say in words."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from jaxgen.evaluation.statistics import half_width
from jaxgen.report.practice.pictures import Titled
from jaxgen.report.style import BLUE, GREY, ORANGE, RED, default_look, finish, subplots
from jaxgen.study.kinds.proposals import importances_by_optuna
from jaxgen.study.kinds.search import (
    BEST,
    COMPLETE,
    FAILED,
    PRUNED,
    Plan,
    Space,
    Trial,
    best_trial,
    space_text,
)
from jaxgen.study.settings import Range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_IMPORTANCE = 6
"""Complete trials from which on importances are drawn."""
COLORS = {COMPLETE: BLUE, PRUNED: GREY, FAILED: RED}


class Verdict(NamedTuple):
    """The winner and the default, trained again on seeds that the search has not seen."""

    seeds: tuple[int, ...]
    default: tuple[float, ...]
    """Return of each seed."""
    winner: tuple[float, ...]
    episodes: int

    @property
    def difference(self) -> tuple[float, float]:
        """Mean of winner less default over seeds, and half of its t interval."""
        differences = np.subtract(self.winner, self.default)
        return float(differences.mean()), half_width(differences)

    @property
    def words(self) -> str:
        """The statement that it allows."""
        mean, half = self.difference
        interval = f"{mean:+.5g} [{mean - half:.5g}, {mean + half:.5g}]"
        what = f"winner less default on {len(self.seeds)} seeds that the search has not seen"
        found = "no difference shown"
        if abs(mean) > half:
            found = "tuning helped" if mean > 0 else "tuning hurt"
        return f"{found}: {what} {interval} (95 % t interval of paired differences)"


def indistinguishable(trials: Sequence[Trial], plan: Plan) -> list[int] | None:
    """Numbers of complete trials whose difference from the best one does not exclude 0.

    Differences are of the same seeds, with 95 % t intervals that are not corrected for the choice
    of the best. None: with a single seed nothing can be told.
    """
    best = best_trial(trials, plan)
    if best is None or len(plan.seeds) < 2:
        return None
    found = []
    for trial in trials:
        if trial.state(plan) == COMPLETE and trial.number != best.number:
            differences = np.subtract(best.values(plan), trial.values(plan))
            if float(differences.mean()) <= half_width(differences):
                found.append(trial.number)
    return found


def content_of(
    trials: Sequence[Trial], plan: Plan, space: Space, identity: Mapping[str, Any],
    verdict: Verdict | None, schedule: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The content of results.json."""
    best = best_trial(trials, plan)
    same = indistinguishable(trials, plan)
    content: dict[str, Any] = {
        "kind": "tuning", "identity": dict(identity), "space": space_text(space),
        BEST: dict(best.params) if best else None,
        "best_trial": best.number if best else None,
        "not_told_apart_from_the_best": same,
        "trials": [_row(trial, plan) for trial in trials],
        "verdict": None,
    }  # fmt: skip
    if schedule:
        content["schedule"] = [dict(params) for params in schedule]
    if verdict is not None:
        mean, half = verdict.difference
        content["verdict"] = {
            "words": verdict.words, "seeds": list(verdict.seeds), "episodes": verdict.episodes,
            "default": list(verdict.default), "winner": list(verdict.winner),
            "difference": mean, "half_width": half,
        }  # fmt: skip
    return content


def _row(trial: Trial, plan: Plan) -> dict[str, Any]:
    values = trial.values(plan)
    return {
        "number": trial.number, "params": dict(trial.params), "state": trial.state(plan),
        "value": trial.value(plan), "values": list(values),
        "half_width": half_width(values) if len(values) > 1 else None,
        "points": [list(point) for point in trial.points],
    }  # fmt: skip


def csv_of(trials: Sequence[Trial], plan: Plan, space: Space) -> str:
    """The table of trials."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    seeds = [f"value_seed_{seed}" for seed in plan.seeds]
    writer.writerow(["number", "state", "value", "half_width", *space, *seeds])
    for trial in trials:
        row = _row(trial, plan)
        values = row["values"] or [""] * len(plan.seeds)
        params = [trial.params[field] for field in space]
        judged = [row["value"], row["half_width"]]
        # csv writes None as nothing.
        writer.writerow([trial.number, row["state"], *judged, *params, *values])
    return stream.getvalue()


def words_of(trials: Sequence[Trial], plan: Plan, verdict: Verdict | None) -> list[str]:
    """The findings of a search, for a screen."""
    counts = {state: sum(trial.state(plan) == state for trial in trials) for state in COLORS}
    lines = [", ".join(f"{count} trials {state}" for state, count in counts.items() if count)]
    best = best_trial(trials, plan)
    if best is None:
        return [*lines, "no trial is complete, so that there is no best one"]
    settings = " ".join(f"{field}={value}" for field, value in best.params.items())
    over = f"mean over {len(plan.seeds)} seeds" if len(plan.seeds) > 1 else "one seed"
    lines.append(f"best: trial {best.number}, {best.value(plan):.5g} ({over}): {settings}")
    same = indistinguishable(trials, plan)
    if same is None:
        lines.append("with one seed a trial nothing says how far its value is chance")
    else:
        lines.append(
            f"{len(same)} of the {counts[COMPLETE] - 1} other complete trials cannot be told apart "
            "from it"
        )
    return lines + ([verdict.words] if verdict else [])


# Figures


def figures_of(
    trials: Sequence[Trial], plan: Plan, space: Space, words: Titled
) -> dict[str, "Figure"]:
    """All figures that trials allow, by the names of their files."""
    shown = [trial for trial in trials if trial.value(plan) is not None]
    if not shown:
        return {}
    figures = {
        "history": _history(shown, plan, words),
        "slice": _slice(shown, plan, space, words),
        "parallel": _parallel(shown, plan, space, words),
    }
    complete = [trial for trial in shown if trial.state(plan) == COMPLETE]
    if len(complete) >= MIN_IMPORTANCE:
        figures["importances"] = _importances(complete, plan, space, words)
    return figures


@default_look()
def _history(trials: Sequence[Trial], plan: Plan, words: Titled) -> "Figure":
    figure, axes = subplots(1, 1, 6.0, 3.8)
    axis = axes[0, 0]
    for state, color in COLORS.items():
        own = [trial for trial in trials if trial.state(plan) == state]
        if own:
            errors = [half_width(t.values(plan)) if len(plan.seeds) > 1 else 0.0 for t in own]
            axis.errorbar([t.number for t in own], [t.value(plan) or 0.0 for t in own], errors,
                          fmt="o", ms=4, color=color, elinewidth=0.8, label=state)  # fmt: skip
    complete = [trial for trial in trials if trial.state(plan) == COMPLETE]
    best = np.maximum.accumulate([trial.value(plan) or 0.0 for trial in complete])
    axis.step([t.number for t in complete], best, where="post", color=ORANGE, label="best so far")
    axis.set(xlabel="trial", ylabel=_value_name(plan))
    figure.legend(frameon=False, loc="outside right upper")
    finish(figure, f"{words.title}: trials", words.quick, _note(plan))
    return figure


def _value_name(plan: Plan) -> str:
    return "return at the end" if plan.value == "last" else "mean return over the curve"


def _note(plan: Plan) -> str:
    if len(plan.seeds) == 1:
        return "one seed a trial"
    return f"mean over {len(plan.seeds)} seeds with 95 % t interval"


def _positions(trials: Sequence[Trial], field: str, choice: Any) -> np.ndarray:
    """Places of the values of a field on an axis: numbers, logarithms, or places of choices."""
    if not isinstance(choice, Range):
        return np.array([choice.index(trial.params[field]) for trial in trials], float)
    return np.array([float(trial.params[field]) for trial in trials])


@default_look()
def _slice(trials: Sequence[Trial], plan: Plan, space: Space, words: Titled) -> "Figure":
    figure, axes = subplots(1, len(space), 3.2, 3.6, sharey=True)
    values = [trial.value(plan) or 0.0 for trial in trials]
    numbers = [trial.number for trial in trials]
    shown = None
    for axis, (field, choice) in zip(axes[0], space.items(), strict=True):
        shown = axis.scatter(_positions(trials, field, choice), values, c=numbers, cmap="viridis",
                             s=18)  # fmt: skip
        if isinstance(choice, Range) and choice.log:
            axis.set_xscale("log")
        elif not isinstance(choice, Range):
            axis.set_xticks(range(len(choice)), choice)
        axis.set_xlabel(field)
    axes[0, 0].set_ylabel(_value_name(plan))
    if shown is not None:
        figure.colorbar(shown, ax=list(axes[0]), label="trial")
    finish(figure, f"{words.title}: by hyper-parameter", words.quick, _note(plan))
    return figure


@default_look()
def _parallel(trials: Sequence[Trial], plan: Plan, space: Space, words: Titled) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, axes = subplots(1, 1, 2.0 * (len(space) + 2), 3.8)
    axis = axes[0, 0]
    values = np.array([trial.value(plan) or 0.0 for trial in trials])
    scale = Normalize(values.min(), values.max() if np.ptp(values) else values.min() + 1)
    columns = [_share(_positions(trials, field, choice), choice) for field, choice in space.items()]
    columns.append(np.asarray(scale(values)))
    colors = colormaps["viridis"]
    for place in np.argsort(values):
        axis.plot([column[place] for column in columns], color=colors(scale(values[place])),
                  lw=1.2, alpha=0.8)  # fmt: skip
    for at, choice in enumerate(space.values()):
        for height, text in _ticks(choice):
            axis.text(at - 0.03, height, text, ha="right", va="center", fontsize=8)
        axis.axvline(at, color="black", lw=0.8)
    axis.axvline(len(space), color="black", lw=0.8)
    axis.set_xticks(range(len(space) + 1), [*space, "value"])
    axis.spines["bottom"].set_visible(False)
    axis.set(yticks=[], xlim=(-0.5, len(space) + 0.1), ylim=(-0.05, 1.05))
    axis.spines["left"].set_visible(False)
    figure.colorbar(ScalarMappable(scale, colors), ax=axis, label=_value_name(plan))
    finish(figure, f"{words.title}: all trials", words.quick, _note(plan))
    return figure


def _share(positions: np.ndarray, choice: Any) -> np.ndarray:
    """Positions as shares of an axis."""
    if not isinstance(choice, Range):
        return positions / max(1, len(choice) - 1)
    low, high = choice.low, choice.high
    if choice.log:
        positions, low, high = np.log(positions), math.log(low), math.log(high)
    return (positions - low) / (high - low)


def _ticks(choice: Any) -> list[tuple[float, str]]:
    if isinstance(choice, Range):
        return [(0.0, f"{choice.low:g}"), (1.0, f"{choice.high:g}")]
    return [(place / max(1, len(choice) - 1), text) for place, text in enumerate(choice)]


def _correlation(trials: Sequence[Trial], plan: Plan, field: str, choice: Any) -> float:
    positions = _positions(trials, field, choice)
    values = [trial.value(plan) or 0.0 for trial in trials]
    if np.ptp(positions) == 0 or np.ptp(values) == 0:
        return 0.0
    return abs(float(stats.spearmanr(positions, values)[0]))  # pyright: ignore


@default_look()
def _importances(trials: Sequence[Trial], plan: Plan, space: Space, words: Titled) -> "Figure":
    """How much each hyper-parameter decides a trial's value, by the method that the axis names."""
    figure, axes = subplots(1, 1, 6.0, 1.4 + 0.5 * len(space))
    axis = axes[0, 0]
    by_field = importances_by_optuna(trials, plan, space)
    method = "share of the importance (PED-ANOVA, Watanabe et al. 2023)"
    if by_field is None:
        by_field = {field: _correlation(trials, plan, field, space[field]) for field in space}
        method = "Spearman's rank correlation with a trial's value, without its sign"
    names, sizes = list(by_field)[::-1], list(by_field.values())[::-1]
    bars = axis.barh(names, sizes, color=BLUE, alpha=0.7)
    axis.bar_label(bars, [f"{size:.2f}" for size in sizes], padding=3)
    axis.set(xlim=(0, 1.1), xlabel=method)
    note = f"{len(trials)} complete trials; few of them where the search saw nothing good"
    finish(figure, f"{words.title}: importances", words.quick, note)
    return figure

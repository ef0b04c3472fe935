"""A search for hyper-parameters as data: its space, its trials, and what follows from them.

A trial is an arm with hyper-parameters of its own, trained with the same seeds as all others. What
is known of trials are the mean returns at the points of their learning curves; whether a trial is
given up follows from these alone, so that a search that was interrupted goes on as it would have.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

from jaxgen.study.arms import arm_name, parse_arm
from jaxgen.study.config import Config, check_keys, replace
from jaxgen.study.settings import Choice, Range, parse_settings
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json

Params = dict[str, str]
"""Values of fields as they are written in an arm's name."""
Space = dict[str, Choice]
Pruner = Literal["none", "median", "halving"]
Value = Literal["last", "mean"]
RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
BEST = "best_params"
"""The entry of a results.json that holds the best trial's hyper-parameters."""
BUDGET = ("total_steps", "curve_steps", "stop_steps", "plateau_points")
"""Fields that are not searched: trials are compared at equal budgets."""
DIGITS = 5
"""Significant digits of a number that is proposed: names of runs hold them."""
STARTUP = 4
"""Trials that are complete before the median of any is a reason to give one up."""


class Plan(NamedTuple):
    """How trials are trained and judged."""

    seeds: tuple[int, ...]
    num_points: int = 2
    """Points of a trial's learning curve."""
    pruner: Pruner = "none"
    """``median`` gives up trials that are below the median of the complete ones at a point;
    ``halving`` the lower half of those that train together."""
    value: Value = "last"
    """A trial's value for a seed: the mean return at the last point, or over all points."""

    @property
    def stops(self) -> list[int]:
        """Numbers of the points at which trials may be given up, and of the last."""
        return [self.num_points] if self.pruner == "none" else list(range(1, self.num_points + 1))


class Trial(NamedTuple):
    """A trial, as far as it is known."""

    number: int
    params: Params
    points: tuple[tuple[float | None, ...], ...] = ()
    """Mean return of each seed at the points that it has reached ``[points][seeds]``; None: it
    diverged."""
    pruned: bool = False

    def state(self, plan: Plan) -> str:
        """One of the states above."""
        if any(value is None for point in self.points for value in point):
            return FAILED
        if self.pruned:
            return PRUNED
        return COMPLETE if len(self.points) == plan.num_points else RUNNING

    def values(self, plan: Plan) -> tuple[float, ...]:
        """Its value for each seed, so far; empty where it diverged or has reached no point."""
        if self.state(plan) == FAILED or not self.points:
            return ()
        if plan.value == "last":
            return tuple(float(value or 0.0) for value in self.points[-1])
        by_seed = zip(*self.points, strict=True)
        return tuple(sum(float(value or 0.0) for value in seed) / len(seed) for seed in by_seed)

    def value(self, plan: Plan) -> float | None:
        """The mean over seeds."""
        values = self.values(plan)
        return sum(values) / len(values) if values else None

    def point(self, number: int) -> float:
        """The mean over seeds at a point, from 1."""
        values = [float(value or 0.0) for value in self.points[number - 1]]
        return sum(values) / len(values)


# Spaces


def parse_space(words: Iterable[str], config: Config) -> Space:
    """Read the fields that are searched, in the grammar of `jaxgen.study.settings`.

    Args:
      words: ``FIELD=VALUE`` each, a range or alternatives.
      config: what is changed by them.

    Raises:
      BadInput: nothing is searched, a field is unknown, is no number where it has a range, or has
        values that the algorithm does not allow.
    """
    space = parse_settings(words)
    if not space:
        raise BadInput(
            "nothing is searched; name fields with ranges or alternatives, as in "
            "learning_rate=log:1e-4..3e-3 batch_size=128,256"
        )
    check_keys(type(config), space)
    for field in BUDGET:
        if field in space:
            raise BadInput(f"{field} is a trial's budget or its end, the same for all; set it")
    kinds = get_type_hints(type(config))
    for field, choice in space.items():
        if isinstance(choice, Range) and kinds[field] not in (int, float):
            raise BadInput(f"{field} is no number, so that it has no range; name its values")
        ends = choice if not isinstance(choice, Range) else [
            written(end, kinds[field]) for end in (choice.low, choice.high)
        ]  # fmt: skip
        for value in ends:
            check_allowed(config, {field: value})
    return space


def check_allowed(config: Config, params: Params) -> None:
    """Raise BadInput where a configuration does not allow these values."""
    overrides = dict(parse_arm(arm_name("baseline", params), type(config)).overrides)
    replace(config, overrides).validate()


def written(value: float, kind: Any) -> str:
    """A number as it is proposed: with few digits, or whole."""
    return str(round(value)) if kind is int else f"{float(f'{value:.{DIGITS}g}')!r}"


def is_whole(config: Config, field: str) -> bool:
    """Whether a field's values are whole numbers."""
    return get_type_hints(type(config))[field] is int


def narrowed(space: Space, best: Mapping[str, str], only: Sequence[str], share: float) -> Space:
    """The space of a second round: ranges around the best values, everything else as it was best.

    Args:
      space: of the first round.
      best: its best trial's values.
      only: fields that are searched again; empty: all that have a range.
      share: of each range that is left, on both sides of the best value together.

    Raises:
      BadInput: a field was not searched, or has no range.
    """
    for field in only:
        if not isinstance(space.get(field), Range):
            raise BadInput(f"{field} had no range in the search that is refined; name one that had")
    again = only or [field for field, choice in space.items() if isinstance(choice, Range)]
    if not again:
        raise BadInput("nothing of the search that is refined had a range")
    narrow: Space = {}
    for field, choice in space.items():
        if field not in again or not isinstance(choice, Range):
            narrow[field] = [best[field]]
            continue
        change = math.log if choice.log else float
        back = math.exp if choice.log else float
        low, high, at = (change(x) for x in (choice.low, choice.high, float(best[field])))
        reach = share * (high - low) / 2
        low, high = max(low, at - reach), min(high, at + reach)
        narrow[field] = Range(
            float(f"{back(low):.{DIGITS}g}"), float(f"{back(high):.{DIGITS}g}"), choice.log
        )
    return narrow


def space_text(space: Space) -> dict[str, str]:
    """The fields of a space in words that `parse_space` reads."""
    return {
        field: f"{'log:' if choice.log else ''}{choice.low!r}..{choice.high!r}"
        if isinstance(choice, Range) else ",".join(choice)
        for field, choice in space.items()
    }  # fmt: skip


# Trials


def running(trials: Sequence[Trial], plan: Plan) -> list[Trial]:
    """Trials that have not ended; all of them have reached the same point."""
    return [trial for trial in trials if trial.state(plan) == RUNNING]


def given_up(trials: Sequence[Trial], plan: Plan) -> list[int]:
    """Numbers of running trials that are given up at the point that they have reached."""
    alive = running(trials, plan)
    if plan.pruner == "none" or not alive or not alive[0].points:
        return []
    point = len(alive[0].points)
    if plan.pruner == "halving":
        worst = sorted(alive, key=lambda trial: (trial.point(point), -trial.number))
        return sorted(trial.number for trial in worst[: len(alive) // 2])
    complete = [trial.point(point) for trial in trials if trial.state(plan) == COMPLETE]
    if len(complete) < STARTUP:
        return []
    return [trial.number for trial in alive if trial.point(point) < _median(complete)]


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return (ordered[middle] + ordered[-middle - 1]) / 2


def best_trial(trials: Sequence[Trial], plan: Plan) -> Trial | None:
    """The complete trial with the highest value, the first of equals."""
    complete = [trial for trial in trials if trial.state(plan) == COMPLETE]
    return max(complete, key=lambda trial: (trial.value(plan), -trial.number), default=None)


# What a search recommends


def best_settings(path: Path, given: Sequence[str] = ()) -> list[str]:
    """The best hyper-parameters of a finished search as ``FIELD=VALUE`` words.

    Args:
      path: its results.json.
      given: words of the same kind, whose fields are left out.

    Raises:
      BadInput: the file cannot be read, or is none of a search.
    """
    fields = {word.partition("=")[0] for word in given}
    best = read_results(path)[BEST]
    return [f"{field}={value}" for field, value in best.items() if field not in fields]


def read_results(path: Path) -> dict[str, Any]:
    """The content of a search's results.json; BadInput: it cannot be read, or is another file."""
    try:
        content = load_json(path)
    except (OSError, DamagedFile) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if content.get("kind") == "tuning" and content.get(BEST) is None:
        raise BadInput(f"{path} has no best trial, as none was complete; search again")
    if not isinstance(content.get(BEST), dict):
        raise BadInput(f"{path} has no {BEST}; give the results.json of a search by tune.py")
    return content

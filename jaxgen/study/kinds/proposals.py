"""Proposals of what a search tries next, each from a seed and the trials before it alone."""

import importlib.util
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.study.config import Config
from jaxgen.study.kinds.search import (
    COMPLETE,
    PRUNED,
    RUNNING,
    Params,
    Plan,
    Space,
    Trial,
    is_whole,
    written,
)
from jaxgen.study.settings import Range
from jaxgen.system.errors import BadInput

SAMPLERS = ("tpe", "random", "grid", "pbt")
NEEDS_OPTUNA = ("tpe",)
STARTUP = 10
"""Trials that TPE draws at random before it models any, as by its own default."""
COPIED, FACTORS, RESAMPLED = 0.25, (0.8, 1.25), 0.25
"""Of population-based training: the share of members that copy others, what their numbers are
multiplied by, and how often a value is drawn anew (Jaderberg et al. 2017)."""


def check_sampler(sampler: str, space: Space, config: Config) -> None:
    """Raise BadInput where a sampler does not exist, is not installed or does not suit a space."""
    if sampler not in SAMPLERS:
        raise BadInput(f"sampler {sampler!r} is not allowed; use one of {', '.join(SAMPLERS)}")
    if sampler in NEEDS_OPTUNA and importlib.util.find_spec("optuna") is None:
        raise BadInput(
            f"sampler {sampler!r} needs Optuna, which is not installed; pip install "
            '"optuna>=4.5,<6", or use --sampler random'
        )
    ranges = [field for field, choice in space.items() if isinstance(choice, Range)]
    if sampler == "grid" and ranges:
        raise BadInput(f"a grid needs alternatives, but {ranges[0]} has a range; name its values")
    if sampler == "pbt":
        for field in space:
            if not isinstance(getattr(config, field), float):
                raise BadInput(
                    f"pbt changes numbers while agents train, but {field} = "
                    f"{getattr(config, field)!r} is no such one; search it by tpe or random"
                )


def propose(
    sampler: str, space: Space, config: Config, trials: Sequence[Trial], plan: Plan, count: int,
    seed: int,
) -> list[Params]:
    """The next trials' hyper-parameters, fewer than asked for at the end of a grid.

    Args:
      sampler: one of `SAMPLERS`.
      space: what is searched.
      config: the default, which says which fields are whole numbers.
      trials: all before, none of them running.
      plan: how they are judged.
      count: how many.
      seed: of the search.
    """
    first = len(trials)
    if sampler == "grid":
        values = [[*choice] for choice in space.values() if not isinstance(choice, Range)]
        cells = itertools.islice(itertools.product(*values), first, first + count)
        return [dict(zip(space, cell, strict=True)) for cell in cells]
    if sampler == "tpe":
        return _by_optuna(space, config, trials, plan, count, seed + first)
    return [
        drawn(space, config, np.random.default_rng([seed, number]))
        for number in range(first, first + count)
    ]


def drawn(space: Space, config: Config, rng: np.random.Generator) -> Params:
    """Values at random: evenly over alternatives and ranges, or over the logarithm of a range."""
    return {field: _drawn(choice, is_whole(config, field), rng) for field, choice in space.items()}


def _drawn(choice: Any, whole: bool, rng: np.random.Generator) -> str:
    if not isinstance(choice, Range):
        return choice[int(rng.integers(len(choice)))]
    if choice.log:
        value = math.exp(rng.uniform(math.log(choice.low), math.log(choice.high)))
    else:
        value = rng.uniform(choice.low, choice.high)
    return _within(choice, value, whole)


def _within(choice: Range, value: float, whole: bool) -> str:
    """A value as it is written, within its range whatever rounding does."""
    if whole:
        return str(min(max(round(value), math.ceil(choice.low)), math.floor(choice.high)))
    return written(min(max(value, choice.low), choice.high), float)


def _by_optuna(
    space: Space, config: Config, trials: Sequence[Trial], plan: Plan, count: int, seed: int
) -> list[Params]:
    """Ask a study that is made anew of all trials, so that no state of a sampler counts."""
    optuna = _optuna()
    with warnings.catch_warnings():
        # Both options are experimental in some versions, which says so each time.
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, multivariate=True, constant_liar=True, seed=seed
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        spaces = {
            field: _distribution(choice, is_whole(config, field)) for field, choice in space.items()
        }
        study.add_trials([_as_optuna(trial, spaces, plan) for trial in trials])
        asked = [study.ask(spaces) for _ in range(count)]
    return [
        {field: _proposed(space[field], value, is_whole(config, field))
         for field, value in trial.params.items()}
        for trial in asked
    ]  # fmt: skip


def _optuna() -> Any:
    """The package, which prints nothing; in a notebook its progress bars warn as they are
    imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def importances_by_optuna(
    trials: Sequence[Trial], plan: Plan, space: Space
) -> dict[str, float] | None:
    """How much each field decides whether a trial is a good one, of 1 in all, by PED-ANOVA.

    None where Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        return None
    optuna = _optuna()
    spaces = {field: _distribution(choice, False) for field, choice in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="maximize")
        study.add_trials([_as_optuna(trial, spaces, plan) for trial in trials])
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {field: float(found.get(field, 0.0)) for field in space}


def _distribution(choice: Any, whole: bool) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(choice, Range):
        return CategoricalDistribution(choice)
    if whole:
        return IntDistribution(math.ceil(choice.low), math.floor(choice.high), log=choice.log)
    return FloatDistribution(choice.low, choice.high, log=choice.log)


def _proposed(choice: Any, value: Any, whole: bool) -> str:
    return _within(choice, value, whole) if isinstance(choice, Range) else str(value)


def _as_optuna(trial: Trial, spaces: dict[str, Any], plan: Plan) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution
    from optuna.trial import TrialState, create_trial

    kinds = {CategoricalDistribution: str, IntDistribution: int}
    params = {
        field: kinds.get(type(spaces[field]), float)(value) for field, value in trial.params.items()
    }
    state = trial.state(plan)
    assert state != RUNNING, "trials are told of together"
    known = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
    reached = {} if not trial.values(plan) else {
        number: trial.point(number) for number in range(1, len(trial.points) + 1)
    }  # fmt: skip
    return create_trial(
        state=known.get(state, TrialState.FAIL), params=params, distributions=spaces,
        value=trial.value(plan) if state == COMPLETE else None, intermediate_values=reached,
    )  # fmt: skip


def exploited(values: Sequence[float | None], rng: np.random.Generator) -> list[int]:
    """Members that each one goes on from: the lowest quarter from members of the highest.

    Args:
      values: of the members; None, which is lowest, where one diverged.
      rng: chooses among the highest.
    """
    worth = [-math.inf if value is None else value for value in values]
    order = sorted(range(len(worth)), key=lambda member: (worth[member], -member))
    num = max(1, int(COPIED * len(order))) if len(order) > 1 else 0
    sources = list(range(len(order)))
    for member in order[:num]:
        best = order[-1 - int(rng.integers(num))]
        if worth[best] > worth[member]:
            sources[member] = best
    return sources


def explored(params: Params, space: Space, rng: np.random.Generator) -> Params:
    """Hyper-parameters near those that were copied: multiplied, or sometimes drawn anew."""
    near = {}
    for field, choice in space.items():
        if rng.random() < RESAMPLED:
            near[field] = _drawn(choice, False, rng)
        elif isinstance(choice, Range):
            factor = FACTORS[int(rng.integers(2))]
            near[field] = _within(choice, factor * float(params[field]), False)
        else:
            place = choice.index(params[field]) + (1, -1)[int(rng.integers(2))]
            near[field] = choice[min(max(place, 0), len(choice) - 1)]
    return near

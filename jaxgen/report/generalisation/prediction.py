"""Does gradient agreement during training predict generalisation, and what simpler things do?

A predictor's worth is its rank correlation with `evidence.PRIMARY` over the seeds of one arm,
averaged over the arms of one algorithm in one environment: arms differ in what they train on, so
that a correlation over all of their runs would show the arms, not the prediction. Algorithms and
environments are never pooled.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.evaluation.statistics import Interval, can_be_ranked, rank_correlation
from jaxgen.report.generalisation.evidence import MIN_SEEDS, PRIMARY, Place, by_place
from jaxgen.results.records import HEADLINE_MODE, Cell, Record


class Predictor(NamedTuple):
    """A number that is known of a run before it is evaluated on shifted levels."""

    name: str
    early: bool
    """True where it comes from the first quarter of a training: a prediction, not a description."""
    value: Callable[[Record], float | None]


def _trained(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.result["training"].get(name)


def _gas(source: str, form: str) -> Callable[[Record], float | None]:
    return lambda record: record.gas(source, form)


def _at_zero(record: Record) -> float | None:
    return record.result["scores"][HEADLINE_MODE]["s"][0]


PREDICTORS = (
    Predictor("GAS, probe", False, _gas("probe", "raw")),
    Predictor("GAS, probe, first quarter", True, _gas("probe", "first")),
    Predictor("GAS, probe, last quarter", False, _gas("probe", "last")),
    Predictor("GAS, probe, corrected for noise", False, _gas("probe", "corrected")),
    Predictor("GAS, training", False, _gas("train", "raw")),
    Predictor("GAS, training, first quarter", True, _gas("train", "first")),
    Predictor("GAS, training, last quarter", False, _gas("train", "last")),
    Predictor("training return, first quarter", True, _trained("train_return_first")),
    Predictor("training return, last quarter", False, _trained("train_return_last")),
    Predictor("value loss, first quarter", True, _trained("value_loss_first")),
    Predictor("value loss, last quarter", False, _trained("value_loss_last")),
    Predictor("gradient norm, first quarter", True, _trained("grad_norm_first")),
    Predictor("gradient norm, last quarter", False, _trained("grad_norm_last")),
    Predictor("s(0), evaluated at level 0", False, _at_zero),
)


class Prediction(NamedTuple):
    """The worth of a predictor for one algorithm in one environment."""

    environment: str
    algorithm: str
    predictor: Predictor
    correlation: Interval
    """Mean over arms of the rank correlation over seeds."""
    num_arms: int
    num_runs: int


def predictions(cells: Sequence[Cell]) -> list[Prediction]:
    """Predict by every predictor, wherever at least one arm has enough seeds.

    Runs that diverged have neither a score nor a training to speak of; they are left out here.
    """
    attempts = [
        _predict(place, group, predictor)
        for place, group in by_place(cells).items()
        for predictor in PREDICTORS
    ]
    return [prediction for prediction in attempts if prediction is not None]


def pairs(cell: Cell, predictor: Predictor) -> tuple[list[float], list[float]]:
    """The predictor and the score of each run of a cell that has both."""
    both = [
        (value, record.result["scores"][HEADLINE_MODE][PRIMARY])
        for record in cell.finished
        if (value := predictor.value(record)) is not None
    ]
    return [value for value, _ in both], [score for _, score in both]


def _predict(place: Place, cells: Sequence[Cell], predictor: Predictor) -> Prediction | None:
    by_arm = [pairs(cell, predictor) for cell in cells]
    strata = [arm for arm in by_arm if len(arm[0]) >= MIN_SEEDS and can_be_ranked(*arm)]
    if not strata:
        return None
    first, second = zip(*strata, strict=True)
    correlation = rank_correlation(first, second)
    return Prediction(*place, predictor, correlation, len(strata), sum(map(len, first)))


class Transfer(NamedTuple):
    """Is the sign of a predictor, taken from the other environments, right in the one left out?"""

    algorithm: str
    predictor: Predictor
    environments: tuple[str, ...]
    """Each left out in turn."""
    correlations: tuple[float, ...]
    """Correlation in the environment left out, times the sign of the mean in the others; positive
    is right."""


def transfers(predicted: Sequence[Prediction]) -> list[Transfer]:
    """Leave one environment out, for every algorithm and predictor with two or more of them."""
    groups: dict[tuple[str, Predictor], list[Prediction]] = {}
    for prediction in predicted:
        groups.setdefault((prediction.algorithm, prediction.predictor), []).append(prediction)
    return [_transfer(group) for group in groups.values() if len(group) > 1]


def _transfer(group: Sequence[Prediction]) -> Transfer:
    rho = np.array([float(prediction.correlation.estimate) for prediction in group])
    others = (rho.sum() - rho) / (len(rho) - 1)
    signed = tuple(float(value) for value in rho * np.sign(others))
    environments = tuple(prediction.environment for prediction in group)
    return Transfer(group[0].algorithm, group[0].predictor, environments, signed)

"""Records as evidence: arms, their scores, differences and the verdicts on them.

A run that diverged is a failure of its arm, not a gap: in every score but ``grs_n`` it counts as
0, as random play, or as the worst seed of its arm where that is below, so that an arm gains
nothing by losing seeds. Aliases are no evidence; settings are never pooled.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from jaxgen.evaluation import statistics
from jaxgen.evaluation.scores import LEVELS_ID, LEVELS_OOD
from jaxgen.evaluation.statistics import (
    MIN_PAIRS,
    Interval,
    PairedDifference,
    Statistic,
    bootstrap,
    holm,
    minimal_detectable_effect,
    paired_difference,
)
from jaxgen.report.shown import by_setting, num_trained
from jaxgen.results.records import HEADLINE_MODE, Cell, Record, check_records, group_cells
from jaxgen.study.arms import technique_of
from jaxgen.study.presets import base_algorithm, is_defined, setups_of, trained_name
from jaxgen.system.errors import BadInput

MIN_SEEDS = MIN_PAIRS
"""Fewer seeds are described, with their range; there is no interval and no test."""
ALPHA = 0.05
PRIMARY = "A_ood"
"""The score of which differences are tested."""

Place = tuple[str, str]
"""Environment and algorithm."""


def choose(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Keep one setting of each algorithm and environment, the one with the most full runs, and of
    an arm that is here twice in it the one with more runs.

    Arms that train on levels that are unseen for all others are left aside.

    Returns:
      The records kept in canonical order, aliases among them, and what was left aside, in words.

    Raises:
      ValueError: as `check_records`, or runs that were not evaluated at the levels of the scores.
    """
    records = check_records(records)
    trained_beyond = {record.name for record in records if _trains_beyond(record)}
    chosen, aside = [], [
        f"{name}, which trains beyond level {max(LEVELS_ID):g} and has no {PRIMARY}"
        for name in sorted(trained_beyond)
    ]
    places = by_setting(record for record in records if record.name not in trained_beyond)
    for (environment, algorithm), (best, *others) in places.items():
        aside += [
            f"{algorithm} on {environment}, setting {group[0].setting}: {num_trained(group)} runs"
            for group in others
        ]
        arms: dict[str, dict[str, list[Record]]] = {}
        for record in best:
            arms.setdefault(record.arm, {}).setdefault(record.name, []).append(record)
        for arm, named in arms.items():
            first, *rest = sorted(named, key=lambda name: -len(named[name]))
            chosen += named[first]
            aside += [
                f"{algorithm} {arm} on {environment}, {name}: {len(named[name])} runs"
                for name in rest
            ]
    return chosen, aside


def _trains_beyond(record: Record) -> bool:
    """Whether a run was evaluated at unseen levels and has no score for them.

    Raises:
      ValueError: it was not evaluated there.
    """
    if record.diverged or record.result["scores"][HEADLINE_MODE][PRIMARY] is not None:
        return False
    levels = record.result["evaluation"]["levels"]
    if not set(LEVELS_OOD) <= set(levels):
        raise BadInput(
            f"{record.name} was evaluated at levels {levels}: {PRIMARY} needs .75 and 1; "
            "evaluate with the levels 0, .25, .5, .75, 1"
        )
    return True


def base_of(cell: Cell) -> str:
    """The algorithm behind the name of a preset or a setting, see `base_of_record`."""
    return base_of_record(cell.records[0])


def base_of_record(record: Record) -> str:
    """The algorithm behind a preset's name, as the run says it.

    Rows of earlier versions do not say it: there the name is looked up among today's presets, and
    an unknown one stands for itself.
    """
    if record.base:
        return record.base
    try:
        return base_algorithm(record.algorithm)
    except ValueError:
        return record.algorithm


def arms_of(records: Iterable[Record]) -> list[Cell]:
    """The cells that are evidence, in canonical order."""
    return [cell for cell in group_cells(records) if not cell.alias_of]


def by_place(cells: Iterable[Cell]) -> dict[Place, list[Cell]]:
    """The cells of each algorithm and environment."""
    places: dict[Place, list[Cell]] = {}
    for cell in cells:
        places.setdefault((cell.environment, cell.algorithm), []).append(cell)
    return places


def values_of(cell: Cell, score: str) -> dict[int, float]:
    """Seed -> score, greedy, failures counted; ``grs_n`` only where it is defined."""
    values = cell.scores(score)
    if score != "grs_n":
        worst = min([0.0, *values.values()])
        values |= {record.seed: worst for record in cell.records if record.diverged}
    return dict(sorted(values.items()))


def estimate(values: Iterable[float], statistic: Statistic = statistics.mean) -> Interval | None:
    """A statistic over seeds with its interval; without one below `MIN_SEEDS`; None: no value."""
    scores = np.array(list(values))
    if not len(scores):
        return None
    return presentable(bootstrap([scores], statistic), len(scores))


def presentable(interval: Interval, num_seeds: int) -> Interval:
    """The presentable part of an interval: with fewer seeds than `MIN_SEEDS` its ends are NaN."""
    if num_seeds >= MIN_SEEDS:
        return interval
    return interval._replace(low=np.array(np.nan), high=np.array(np.nan))


# Differences between arms


class Verdict(Enum):
    """The statement that a difference allows."""

    LARGER = "larger"
    SMALLER = "smaller"
    NONE = "none beyond the margin"
    UNDECIDED = "undecided"
    FEW = "too few pairs"
    FAILED = "neither learned"
    ABSENT = "not measured"


class Comparison(NamedTuple):
    """First arm minus second of one algorithm and environment, on the primary score."""

    environment: str
    algorithm: str
    first: str
    second: str
    difference: PairedDifference | None
    reason: str = ""
    """Why there is no difference."""
    learned: bool = True
    """True where at least one run of either arm learned."""
    p_value: float | None = None
    """p-value of no difference, after Holm's correction over the family."""
    p_equivalent: float | None = None
    """p-value of a difference beyond the margin, after the same correction."""
    detectable: float | None = None
    """The true difference that is found with 80 % power at the first step of the correction."""

    @property
    def label(self) -> str:
        """Both arms, written as "gar - dr"."""
        return f"{self.first} - {self.second}"

    @property
    def verdict(self) -> Verdict:
        """The statement that the tests allow."""
        if self.difference is None:
            return Verdict.ABSENT
        if not self.learned:
            return Verdict.FAILED
        if self.p_value is None or self.p_equivalent is None:
            return Verdict.FEW
        if self.p_value < ALPHA:
            return Verdict.LARGER if self.difference.interval.estimate > 0 else Verdict.SMALLER
        return Verdict.NONE if self.p_equivalent < ALPHA else Verdict.UNDECIDED


CORE = ("baseline", "dr", "gar")
"""Differences among these use the seeds that all of them have, so that their parts add up."""


def compare(cells: Sequence[Cell], pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """Differences of pairs of techniques in every algorithm and environment, as one family.

    A pair of which one arm is here and the other is not has a comparison without a difference;
    one of which neither is here, which the algorithm does not have, or whose techniques were not
    run anywhere, none at all. Presets and settings are run with a few arms on purpose: there
    both must be here.
    """
    run = {cell.arm for cell in cells}
    family = [
        compared(place, arms, first, second)
        for place, group in by_place(cells).items()
        for arms in ({cell.arm: cell for cell in group},)
        for first, second in pairs
        if {first, second} <= run
        and _are_compared(group, {first, second} & arms.keys())
        and _is_possible(base_of(group[0]), first, second)
    ]
    return corrected(family)


def _are_compared(group: Sequence[Cell], present: set[str]) -> bool:
    """Whether a place is asked for a pair of which these arms are here."""
    is_derived = base_of(group[0]) != group[0].algorithm
    return len(present) == 2 or (len(present) == 1 and not is_derived)


def _is_possible(base: str, *techniques: str) -> bool:
    """The algorithm has the techniques as arms of their own."""
    try:
        return all(
            is_defined(name, base) and trained_name(name, base) == name
            for name in techniques
        )
    except ValueError:
        # Registered where the results were made, not here.
        return True


def compared(place: Place, arms: Mapping[str, Cell], first: str, second: str) -> Comparison:
    """The difference of two arms of one place, without a correction."""
    missing = [name for name in (first, second) if name not in arms]
    if missing:
        return Comparison(*place, first, second, None, f"no runs of {' and '.join(missing)}")
    others = [name for name in CORE if name in arms] if {first, second} <= set(CORE) else []
    values = {name: values_of(arms[name], PRIMARY) for name in (first, second, *others)}
    seeds = sorted(set.intersection(*map(set, values.values())))
    if not seeds:
        return Comparison(*place, first, second, None, "no seed in common")
    one, other = ([values[name][seed] for seed in seeds] for name in (first, second))
    learned = any(arms[name].num_valid() for name in (first, second))
    return Comparison(*place, first, second, paired_difference(one, other), learned=learned)


def corrected(family: list[Comparison]) -> list[Comparison]:
    """A family with Holm's correction, of the tests of difference and of equivalence apart."""
    tested = [
        (index, comparison.difference.p_value, comparison.difference.p_equivalent)
        for index, comparison in enumerate(family)
        if comparison.difference is not None
        and comparison.learned
        and comparison.difference.p_value is not None
        and comparison.difference.p_equivalent is not None
    ]
    if not tested:
        return family
    places, *p_values = zip(*tested, strict=True)
    differs, equivalent = map(holm, p_values)
    adjusted = list(family)
    for place, p, q in zip(places, differs, equivalent, strict=True):
        adjusted[place] = family[place]._replace(
            p_value=float(p),
            p_equivalent=float(q),
            detectable=_detectable(family[place], ALPHA / len(tested)),
        )
    return adjusted


def _detectable(comparison: Comparison, alpha: float) -> float | None:
    difference = comparison.difference
    if difference is None or difference.standard_deviation is None:
        return None
    return minimal_detectable_effect(difference.standard_deviation, difference.num_pairs, alpha)


# Ranking


class Leader(NamedTuple):
    """The arm with the highest mean of a score, and the arms that cannot be told from it."""

    cell: Cell
    tied: list[Cell]
    """No difference was found, after Holm's correction over all others."""
    behind: list[Cell]
    untested: list[Cell]
    """Too few seeds in common."""
    out_of_reach: bool
    """Even the smallest p-value that its seeds allow would not survive the correction."""


def ranked(cells: Sequence[Cell], score: str) -> list[Cell]:
    """Cells with runs by their mean score, the highest first."""
    means = {cell.name: np.mean(list(values_of(cell, score).values())) for cell in cells}
    return sorted(cells, key=lambda cell: -means[cell.name])


def leader(cells: Sequence[Cell], score: str) -> Leader:
    """Find the leading arm among cells of one environment, and those that keep up with it."""
    first, *others = ranked(cells, score)
    leading = values_of(first, score)
    differences = {}
    for cell in others:
        values = values_of(cell, score)
        shared = sorted(leading.keys() & values.keys())
        differences[cell.name] = [leading[seed] - values[seed] for seed in shared]
    tested = [cell for cell in others if len(differences[cell.name]) >= MIN_SEEDS]
    adjusted = holm([statistics.sign_flip_test(differences[cell.name]) for cell in tested])
    smallest = min((2.0 ** (1 - len(differences[cell.name])) for cell in tested), default=0.0)
    behind = {
        cell.name
        for cell, p in zip(tested, adjusted, strict=True)
        if p < ALPHA and np.mean(differences[cell.name]) > 0
    }
    return Leader(
        first,
        tied=[cell for cell in tested if cell.name not in behind],
        behind=[cell for cell in tested if cell.name in behind],
        untested=[cell for cell in others if len(differences[cell.name]) < MIN_SEEDS],
        out_of_reach=len(tested) * smallest >= ALPHA,
    )


# What is not there


def missing_arms(cells: Sequence[Cell]) -> list[str]:
    """Arms and seeds that the others would lead one to expect, in words.

    Every arm that occurs is expected of every algorithm that has its technique, in every
    environment, with as many seeds as the arm has anywhere.
    """
    present = {(cell.environment, cell.algorithm, cell.arm): cell for cell in cells}
    environments, algorithms, arms = (
        list(dict.fromkeys(key[axis] for key in present)) for axis in range(3)
    )
    lines = []
    for environment in environments:
        for algorithm in algorithms:
            for arm in arms:
                cell = present.get((environment, algorithm, arm))
                wanted = max(len(c.records) for c in cells if c.arm == arm)
                if cell is None and _is_expected(environment, algorithm, arm):
                    lines.append(f"{algorithm} {arm} on {environment}: no run")
                elif cell is not None and len(cell.records) < wanted:
                    lines.append(
                        f"{algorithm} {arm} on {environment}: "
                        f"{len(cell.records)} of {wanted} seeds"
                    )
    return lines


def _is_expected(environment: str, algorithm: str, arm: str) -> bool:
    """Whether a study would run an arm: by today's presets, as no run says what was not run.

    Variants of a preset are run with a few techniques in one environment on purpose.
    """
    return environment in setups_of(algorithm) and _is_possible(algorithm, technique_of(arm))

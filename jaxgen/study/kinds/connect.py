"""A study of connectivity as data: parents, forks at points of their training, and pairs of ends.

Parents and forks are ordinary runs, so that nothing here trains. Forks of a point and a strategy
are a group; forks 1 and 2 of a parent are a pair, 3 and 4 the next. Controls are strategies as
well: of some the ends are not those of forks.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, get_args

from jaxgen.study.config import OffPolicyConfig
from jaxgen.study.fork import Fork, Replay
from jaxgen.study.product import Group, Study
from jaxgen.study.spec import RunSpec, check_range
from jaxgen.system.errors import BadInput

POINTS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of training at which the specified study forks."""
PERTURBATION = 1e-4
"""Length of what is added in the control ``perturbed``, as a share of the parameters' length."""

STRATEGIES: tuple[Replay, ...] = tuple(kind for kind in get_args(Replay) if kind != "tandem")
"""What becomes of a replay; forks draw all their random numbers anew."""
FORKED_CONTROLS = {
    "identical": "the same random numbers: the ends must be equal bit by bit",
    "order": "one stream of data, the first fork's; own minibatches (without a replay: own updates "
             "of a first rollout that is the same)",
    "data": "own actions and environments; the updates draw the same",
    "perturbed": f"the same random numbers, and parameters moved by {PERTURBATION:g} of their "
                 "length",
}  # fmt: skip
LINE_CONTROLS = {
    "independent": "two parents' ends",
    "own-run": "a parent at the fork point, and at its end",
    "direction": "a fork's end, and as far from it as the other fork is in a random direction",
    "permuted": "a parent's end, and the same with its hidden units in another order",
}
"""Ends without forks of their own; ``direction`` has those of the first strategy."""
CONTROLS = (*FORKED_CONTROLS, *LINE_CONTROLS)
ALIGNED = ("independent", "permuted")
"""Controls whose lines are walked aligned as well."""


class Forking(NamedTuple):
    """The forks of every parent, and the controls beside them."""

    points: tuple[float, ...] = POINTS
    """Shares of training; 0: from the start, where parents share their first networks alone."""
    strategies: tuple[str, ...] = ("copy",)
    pairs: int = 1
    """Pairs of each parent at a point."""
    controls: tuple[str, ...] = ()
    horizon: int = 0
    """Env steps that forks train for; 0: to the end of their parents' training."""

    def validate(self) -> None:
        """Raise BadInput for a point outside of [0, 1), one that is repeated, other names, or no
        pair."""
        if not self.points:
            raise BadInput("no fork points given; name at least one")
        for point in self.points:
            if not 0 <= point < 1:
                raise BadInput(f"fork point {point!r} is not allowed; use shares in [0, 1)")
            if self.points.count(point) > 1:
                raise BadInput(f"fork point {point!r} is given twice; name each once")
        _check_names("replay", self.strategies, STRATEGIES)
        _check_names("control", self.controls, CONTROLS)
        if not self.strategies:
            raise BadInput("no replay given; name at least one")
        if self.pairs < 1:
            raise BadInput(f"{self.pairs} pairs are not allowed; use 1 or more")
        if self.horizon < 0:
            raise BadInput(f"horizon {self.horizon} is not allowed; use 0 or more env steps")

    @property
    def forked(self) -> list[str]:
        """Strategies and controls that have forks of their own."""
        return [*self.strategies, *(name for name in self.controls if name in FORKED_CONTROLS)]


def _check_names(what: str, names: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for name in names:
        if name not in allowed:
            raise BadInput(f"{what} {name!r} is not allowed; use one of {', '.join(allowed)}")
        if names.count(name) > 1:
            raise BadInput(f"{what} {name!r} is given twice; name each once")


class Walk(NamedTuple):
    """How lines are walked."""

    num_alphas: int = 101
    """Points of a line, its ends and its middle among them."""
    episodes: int = 100
    """Of each point and level, the same for all points of all lines."""
    levels: tuple[float, ...] = (0.0,)
    aligned: bool = False
    """Also to the second end with its hidden units in the order that is nearest to the first's; of
    `ALIGNED` always."""
    layers: bool = False
    """Also with each layer alone."""
    critics: bool = False
    """Measure what judges actions as well, on environments in JAX."""

    @property
    def alphas(self) -> list[float]:
        """Shares of the second end, evenly from 0 to 1."""
        return [number / (self.num_alphas - 1) for number in range(self.num_alphas)]

    def validate(self) -> None:
        """Raise BadInput for an even number of points, too few episodes, or a level that is
        outside of [0, 1] or repeated."""
        if self.num_alphas < 3 or self.num_alphas % 2 == 0:
            raise BadInput(
                f"{self.num_alphas} alphas are not allowed; use an odd number, 3 or larger, which "
                "has a middle"
            )
        if self.episodes < 4:
            raise BadInput(
                f"{self.episodes} episodes are not allowed; use 4 or more, as the worst point is "
                "chosen on half of them"
            )
        check_range(self.levels)
        for level in self.levels:
            if self.levels.count(level) > 1:
                raise BadInput(f"level {level:g} is given twice; name each once")


class End(NamedTuple):
    """An end of a line."""

    run: str
    seed: int
    share: float = 1.0
    """Of the run's training; below 1 that of a snapshot."""


class Pair(NamedTuple):
    """Two ends, which a line joins."""

    parent: RunSpec
    seed: int
    strategy: str
    """One of `STRATEGIES` or `CONTROLS`."""
    point: float | None
    """Where the ends' trainings part; None: they are not of one parent, or of one end."""
    number: int
    """From 1."""
    first: End
    second: End
    """Of ``permuted`` the first again, of ``direction`` the end that gives the distance."""

    @property
    def name(self) -> str:
        """A name for files: of the point, the strategy and, beyond the first, the number."""
        place = "" if self.point is None else f"_{self.point:g}"
        more = f"_pair{self.number}" if self.number > 1 else ""
        return f"fork{place}_{self.strategy}{more}"


def parents_of(study: Study, forking: Forking) -> Study:
    """The runs of a study with the snapshots that their forks begin with.

    Raises:
      BadInput: as `Forking.validate`; points that are the same iteration, or too late; a strategy
        that an algorithm does not have; a control that needs more seeds.
    """
    forking.validate()
    snapshots = tuple(sorted(point for point in forking.points if point > 0))
    groups = []
    for group in study.groups:
        if "independent" in forking.controls and len(group.seeds) < 2:
            raise BadInput("control 'independent' joins two parents; use two seeds or more")
        for spec in group.specs:
            _check(spec, forking)
        specs = tuple(dataclasses.replace(spec, snapshots=snapshots) for spec in group.specs)
        groups.append(dataclasses.replace(group, specs=specs))
    return Study(tuple(groups), study.left_out)


def _check(spec: RunSpec, forking: Forking) -> None:
    """Raise BadInput where a run cannot be forked so."""
    config = spec.config
    at = {}
    for point in forking.points:
        steps = config.steps_at(point)
        if steps in at:
            raise BadInput(
                f"fork points {at[steps]:g} and {point:g} of {spec.experiment} are the same "
                f"iteration, after {steps} of {config.total_steps} env steps; use points that are "
                "further apart, or a larger budget"
            )
        left = config.steps_at(1.0) - steps
        if left < max(1, forking.horizon):
            asked = f"the {forking.horizon} env steps of the horizon" if forking.horizon else "any"
            raise BadInput(
                f"fork point {point:g} of {spec.experiment} leaves {left} env steps of "
                f"{config.total_steps}, not {asked}; use an earlier one"
            )
        at[steps] = point
    others = [strategy for strategy in forking.strategies if strategy != "copy"]
    if others and not isinstance(config, OffPolicyConfig):
        raise BadInput(
            f"replay {others[0]!r} does not apply to {spec.base}, which learns from what it has "
            "just seen and keeps no replay; use copy"
        )


def forks_of(parents: Study, forking: Forking) -> Study:
    """The forks of a study of parents: a group for each of its groups, points and strategies."""
    groups = []
    for group in parents.groups:
        for strategy, point in _forked(forking):
            specs = tuple(
                _fork(spec, point, strategy, number, forking)
                for spec in group.specs for number in range(1, 2 * forking.pairs + 1)
            )  # fmt: skip
            groups.append(Group(group.algorithm, group.environment, specs, (), group.seeds))
    return Study(tuple(groups))


def _forked(forking: Forking) -> Iterator[tuple[str, float]]:
    """Strategies and points of forks; at the start there is nothing to be perturbed yet."""
    for point in forking.points:
        for strategy in forking.forked:
            if strategy != "perturbed" or point > 0:
                yield strategy, point


def _fork(
    parent: RunSpec, point: float, strategy: str, number: int, forking: Forking
) -> RunSpec:
    begun = Fork(parent.name, point, number, horizon=forking.horizon)
    if strategy in STRATEGIES:
        begun = dataclasses.replace(begun, replay=strategy)
    elif strategy == "order" and isinstance(parent.config, OffPolicyConfig):
        begun = dataclasses.replace(begun, replay="tandem")
    elif strategy in ("order", "data"):
        begun = dataclasses.replace(begun, noise=strategy)
    else:
        length = PERTURBATION if strategy == "perturbed" else 0.0
        begun = dataclasses.replace(begun, noise="none", perturbation=length)
    return dataclasses.replace(parent, start=begun, snapshots=())


def pairs_of(parents: Study, forking: Forking) -> list[Pair]:
    """All pairs, those of a parent one after the other."""
    pairs = []
    for group in parents.groups:
        for spec, seed in group.lanes:
            pairs += _pairs_of_forks(spec, seed, forking)
            pairs += _pairs_of_controls(spec, seed, group.seeds, forking)
    return pairs


def _pairs_of_forks(spec: RunSpec, seed: int, forking: Forking) -> Iterator[Pair]:
    for strategy, point in _forked(forking):
        for number in range(1, forking.pairs + 1):
            ends = (
                End(_fork(spec, point, strategy, fork, forking).name, seed)
                for fork in (2 * number - 1, 2 * number)
            )
            yield Pair(spec, seed, strategy, point, number, *ends)


def _pairs_of_controls(
    spec: RunSpec, seed: int, seeds: tuple[int, ...], forking: Forking
) -> Iterator[Pair]:
    """Pairs whose ends are not of forks of their own."""
    end = End(spec.name, seed)
    following = seeds[(seeds.index(seed) + 1) % len(seeds)]
    single = {"independent": End(spec.name, following), "permuted": end}
    for control in forking.controls:
        if control in single:
            yield Pair(spec, seed, control, None, 1, end, single[control])
        elif control == "own-run":
            for point in forking.points:
                if point > 0:
                    yield Pair(spec, seed, control, point, 1, End(spec.name, seed, point), end)
        elif control == "direction":
            for pair in _pairs_of_forks(spec, seed, forking._replace(controls=())):
                if pair.strategy == forking.strategies[0]:
                    yield pair._replace(strategy=control)

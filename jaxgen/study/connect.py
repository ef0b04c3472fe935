"""A study of connectivity as data: parents, and pairs of forks at points of their training.

Forks of a point and a replay are a group; forks 1 and 2 of a parent are a pair, 3 and 4 the next.
Parents and forks are ordinary runs, so that nothing here trains.
"""

import dataclasses
from typing import NamedTuple, get_args

from jaxgen.study.config import OffPolicyConfig
from jaxgen.study.product import Group, Study
from jaxgen.study.spec import Fork, Replay, RunSpec, check_range
from jaxgen.system.errors import BadInput

POINTS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of training at which the specified study forks."""


class Forking(NamedTuple):
    """The forks of every parent."""

    points: tuple[float, ...] = POINTS
    """Shares of training; 0: from the start, where parents share their first networks alone."""
    replays: tuple[Replay, ...] = ("copy",)
    pairs: int = 1
    """Pairs of each parent at a point."""

    def validate(self) -> None:
        """Raise BadInput for a point outside of [0, 1), one that is repeated, another replay, or no
        pair."""
        if not self.points:
            raise BadInput("no fork points given; name at least one")
        for point in self.points:
            if not 0 <= point < 1:
                raise BadInput(f"fork point {point!r} is not allowed; use shares in [0, 1)")
            if self.points.count(point) > 1:
                raise BadInput(f"fork point {point!r} is given twice; name each once")
        for replay in self.replays:
            if replay not in get_args(Replay):
                names = ", ".join(get_args(Replay))
                raise BadInput(f"replay {replay!r} is not allowed; use one of {names}")
            if self.replays.count(replay) > 1:
                raise BadInput(f"replay {replay!r} is given twice; name each once")
        if not self.replays:
            raise BadInput("no replay given; name at least one")
        if self.pairs < 1:
            raise BadInput(f"{self.pairs} pairs are not allowed; use 1 or more")


class Walk(NamedTuple):
    """How lines are walked."""

    num_alphas: int = 101
    """Points of a line, its ends and its middle among them."""
    episodes: int = 100
    """Of each point and level, the same for all points of all lines."""
    levels: tuple[float, ...] = (0.0,)

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


class Pair(NamedTuple):
    """Two forks of a parent, whose ends a line joins."""

    parent: RunSpec
    point: float
    replay: Replay
    number: int
    """From 1."""
    first: RunSpec
    second: RunSpec
    seed: int

    @property
    def name(self) -> str:
        """A name for files: of the point, the replay and, beyond the first, the number."""
        more = f"_pair{self.number}" if self.number > 1 else ""
        return f"fork_{self.point:g}_{self.replay}{more}"


def parents_of(study: Study, forking: Forking) -> Study:
    """The runs of a study with the snapshots that their forks begin with.

    Raises:
      BadInput: as `Forking.validate`; points that are the same iteration; a replay that an
        algorithm does not have.
    """
    forking.validate()
    snapshots = tuple(sorted(point for point in forking.points if point > 0))
    groups = []
    for group in study.groups:
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
        iteration = config.iteration_at(point)
        if iteration in at:
            raise BadInput(
                f"fork points {at[iteration]:g} and {point:g} of {spec.experiment} are the same "
                f"iteration, {iteration} of {config.num_iterations}; use points that are further "
                "apart, or a larger budget"
            )
        if iteration >= config.num_iterations:
            raise BadInput(
                f"fork point {point:g} of {spec.experiment} leaves none of its "
                f"{config.num_iterations} iterations; use an earlier one"
            )
        at[iteration] = point
    others = [replay for replay in forking.replays if replay != "copy"]
    if others and not isinstance(config, OffPolicyConfig):
        raise BadInput(
            f"replay {others[0]!r} does not apply to {spec.base}, which learns from what it has "
            "just seen and keeps no replay; use copy"
        )


def forks_of(parents: Study, forking: Forking) -> Study:
    """The forks of a study of parents: a group for each of its groups, points and replays."""
    groups = []
    for group in parents.groups:
        for point in forking.points:
            for replay in forking.replays:
                specs = tuple(
                    _fork(spec, point, replay, number)
                    for spec in group.specs for number in range(1, 2 * forking.pairs + 1)
                )  # fmt: skip
                groups.append(Group(group.algorithm, group.environment, specs, (), group.seeds))
    return Study(tuple(groups))


def _fork(parent: RunSpec, point: float, replay: Replay, number: int) -> RunSpec:
    return dataclasses.replace(
        parent, start=Fork(parent.name, point, number, replay), snapshots=()
    )


def pairs_of(parents: Study, forking: Forking) -> list[Pair]:
    """All pairs, those of a parent one after the other."""
    return [
        Pair(
            spec, point, replay, number, _fork(spec, point, replay, 2 * number - 1),
            _fork(spec, point, replay, 2 * number), seed,
        )
        for group in parents.groups for spec, seed in group.lanes
        for point in forking.points for replay in forking.replays
        for number in range(1, forking.pairs + 1)
    ]  # fmt: skip

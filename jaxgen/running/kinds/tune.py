"""The study of hyper-parameters: which runs a search needs next, and what its trials returned.

The state of a search is its log. `advance` says what follows from it; the runs of a step are an
ordinary study, which is stored and resumed as any other; `tell` writes down what came out.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.results import log
from jaxgen.results.store import Store
from jaxgen.study.arms import arm_name, parse_arm
from jaxgen.study.config import replace
from jaxgen.study.fork import Fork
from jaxgen.study.kinds import proposals
from jaxgen.study.kinds.search import (
    Params,
    Plan,
    Space,
    Trial,
    check_allowed,
    given_up,
    running,
)
from jaxgen.study.product import Study
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput

STUDY, ASKED, REACHED, GENERATION = "study", "asked", "reached", "generation"
"""Kinds of records."""
LOG = "log.jsonl"

MakeStudy = Callable[[Sequence[str], Sequence[int], int], Study]
"""(arms in words, seeds, evaluation episodes) -> a study of them."""


class Search(NamedTuple):
    """All that decides what a search tries and finds."""

    technique: str
    space: Space
    plan: Plan
    sampler: str
    seed: int
    """Of the sampler."""
    num_trials: int
    batch: int
    """Trials that are asked for, and train, together."""
    episodes: int
    """Of each point of a trial's curve."""
    test_seeds: tuple[int, ...]
    test_episodes: int

    @property
    def num_generations(self) -> int:
        """How often a population is changed, the first draw included; of other samplers none."""
        return self.plan.num_points if self.sampler == "pbt" else 0


class State(NamedTuple):
    """The content of the log."""

    trials: list[Trial]
    sources: list[list[int]]
    """Of a population: the member that each one went on from, for each generation after the
    first."""
    histories: list[list[Params]]
    """Of a population: the members' hyper-parameters in each generation."""


class Step(NamedTuple):
    """Runs that are trained next, and what of trials they tell."""

    study: Study
    runs: dict[int, str]
    """Trial number -> run name."""
    points: list[int]
    """The points, from 1, that these runs pass."""


# The log


def open_log(path: Path, identity: Mapping[str, Any]) -> State:
    """The state of a search, which is begun where there is none.

    Raises:
      BadInput: the log is of another search.
    """
    if path.is_dir() or path.exists() and not path.stat().st_size:
        raise BadInput(f"{path} is empty or no file; remove it, and the search begins again")
    records = log.read(path)
    if not records:
        path.parent.mkdir(parents=True, exist_ok=True)
        log.append(path, {"kind": STUDY, "identity": identity})
        return State([], [], [])
    before = records[0].get("identity", {})
    differing = [name for name in identity if before.get(name) != identity[name]]
    if differing:
        name = differing[0]
        raise BadInput(
            f"{path} is of another search: {name} is {before.get(name)!r} there, "
            f"{identity[name]!r} here; give another --name"
        )
    return _state(records[1:])


def _state(records: Sequence[Mapping[str, Any]]) -> State:
    trials: list[Trial] = []
    sources: list[list[int]] = []
    histories: list[list[Params]] = []
    for record in records:
        if record["kind"] == ASKED:
            first, refused = len(trials), record.get("refused", ())
            trials += [
                # A trial that the algorithm does not allow has failed before it began.
                Trial(first + number, params, ((None,),) if number in refused else ())
                for number, params in enumerate(record["trials"])
            ]
            histories.append([trial.params for trial in trials])
        elif record["kind"] == REACHED:
            for number, points in record["points"].items():
                trial = trials[int(number)]
                known = trial.points + tuple(tuple(point) for point in points)
                trials[int(number)] = trial._replace(
                    points=known, pruned=int(number) in record["pruned"]
                )
        else:
            sources.append(record["sources"])
            histories.append(record["params"])
            trials = [
                trial._replace(params=params)
                for trial, params in zip(trials, record["params"], strict=True)
            ]
    return State(trials, sources, histories)


# What comes next


def advance(search: Search, state: State, path: Path, make_study: MakeStudy) -> Step | None:
    """The runs that a search needs next; None: it is done. Asks for trials where none runs.

    Args:
      search: what is searched.
      state: what `open_log` gave.
      path: of the log, which learns of what is asked for.
      make_study: makes the runs.
    """
    plan, trials = search.plan, state.trials
    alive = running(trials, plan)
    if not alive:
        left = search.num_trials - len(trials)
        if left <= 0 or search.num_generations and trials:
            return None
        config = _config(search, make_study)
        count = left if search.num_generations else min(search.batch, left)
        sampler = "random" if search.num_generations else search.sampler
        asked = proposals.propose(
            sampler, search.space, config, trials, plan, count, search.seed
        )
        if not asked:
            return None
        refused = [number for number, params in enumerate(asked) if not _is_allowed(config, params)]
        if len(refused) == len(asked):
            raise BadInput(
                f"{config.algorithm} allows none of the trials that were drawn, {asked[0]} among "
                "them; search a space whose combinations it allows"
            )
        log.append(path, {"kind": ASKED, "trials": asked, "refused": refused})
        return advance(search, reread(path), path, make_study)
    if search.num_generations:
        return _generation(search, state, path, make_study)
    return _segment(search, alive, make_study)


def _is_allowed(config: Any, params: Params) -> bool:
    """Whether an algorithm allows a combination of values."""
    try:
        check_allowed(config, params)
    except BadInput:
        return False
    return True


def reread(path: Path) -> State:
    """The state of a search whose log is known to be its own."""
    return _state(log.read(path)[1:])


def _config(search: Search, make_study: MakeStudy) -> Any:
    (group,) = make_study([search.technique], search.plan.seeds, search.episodes).groups
    return group.config


def _segment(search: Search, alive: Sequence[Trial], make_study: MakeStudy) -> Step:
    """The stretch of training up to the next point at which trials may be given up."""
    reached = len(alive[0].points)
    stops = search.plan.stops
    stop = next(point for point in stops if point > reached)
    study, names = _runs(search, alive, make_study)
    chain = [point for point in stops if point <= stop]
    made = _with_course(study, search, chain)
    runs = {number: made.renamed[name] for number, name in names.items()}
    return Step(made.study, runs, list(range(reached + 1, stop + 1)))


class _Made(NamedTuple):
    study: Study
    renamed: dict[str, str]
    """Name of a run as it was made -> of the run that is trained."""


def _runs(
    search: Search, trials: Sequence[Trial], make_study: MakeStudy
) -> tuple[Study, dict[int, str]]:
    """A study of trials, equal ones once, and the run of each trial."""
    arms = {trial.number: arm_of(search, trial) for trial in trials}
    study = make_study(list(dict.fromkeys(arms.values())), search.plan.seeds, search.episodes)
    specs = [spec for group in study.groups for spec in group.specs]
    # A study groups its arms by programs; hyper-parameters tell which is which.
    return study, {number: _run_of(arm, specs) for number, arm in arms.items()}


def _run_of(arm: str, specs: Sequence[RunSpec]) -> str:
    """The run of an arm in words; all have settings in common beside it."""
    asked = parse_arm(arm, type(specs[0].config)).overrides
    return next(spec.name for spec in specs if set(asked) <= set(spec.overrides))


def _with_course(study: Study, search: Search, chain: Sequence[int]) -> _Made:
    """Runs with a learning curve of a search's points, which train up to the last of a chain of
    points, each from where the one before has stopped."""
    renamed, groups = {}, []
    for group in study.groups:
        specs = []
        for spec in group.specs:
            last = spec
            for place, point in enumerate(chain):
                before = None if place == 0 else (last.name, chain[place - 1])
                last = _stretch(spec, search, before, point)
            renamed[spec.name] = last.name
            specs.append(last)
        groups.append(dataclasses.replace(group, specs=tuple(specs)))
    return _Made(Study(tuple(groups), study.left_out), renamed)


def _stretch(
    spec: RunSpec, search: Search, before: tuple[str, int] | None, point: int, number: int = 0
) -> RunSpec:
    """A run from where another, (name, point), has stopped up to a point."""
    plan, share = search.plan, point / search.plan.num_points
    config = replace(
        spec.shared, {"curve_steps": max(1, spec.config.total_steps // plan.num_points)}
    )
    ends = point == plan.num_points
    if not ends:
        config = replace(config, {"stop_steps": spec.config.steps_at(share)})
    start = None
    if before is not None:
        run, reached = before
        start = Fork(
            run, reached / plan.num_points, number, noise="all" if number else "none"
        )
    evaluation = dataclasses.replace(spec.evaluation, curve_episodes=search.episodes)
    return dataclasses.replace(
        spec, shared=config, evaluation=evaluation, start=start,
        snapshots=() if ends else (share,),
    )  # fmt: skip


def _generation(
    search: Search, state: State, path: Path, make_study: MakeStudy
) -> Step:
    """A population's stretch of training to its next point; before it, members that are behind
    copy others."""
    trials, sources, histories = state
    reached = len(trials[0].points)
    if reached and len(sources) < reached:
        rng = np.random.default_rng([search.seed, reached])
        chosen = proposals.exploited([trial.value(search.plan) for trial in trials], rng)
        params = [
            trial.params if chosen[member] == member
            else proposals.explored(trials[chosen[member]].params, search.space, rng)
            for member, trial in enumerate(trials)
        ]  # fmt: skip
        log.append(path, {"kind": GENERATION, "sources": chosen, "params": params})
        return _generation(search, reread(path), path, make_study)
    study, names = population(search, sources, histories, make_study)
    return Step(study, dict(enumerate(names)), [reached + 1])


def population(
    search: Search, sources: Sequence[Sequence[int]], histories: Sequence[Sequence[Params]],
    make_study: MakeStudy,
) -> tuple[Study, list[str]]:
    """The members' runs in their last generation, each with its whole past, and their names.

    Args:
      search: gives the points, a generation each.
      sources: member that each one went on from, ``[generations - 1][members]``.
      histories: hyper-parameters ``[generations][members]``.
      make_study: makes the runs; its seeds are what they are trained with.
    """
    specs: list[RunSpec] = []
    study = None
    for generation, params in enumerate(histories):
        members = [Trial(number, values) for number, values in enumerate(params)]
        study, names = _runs(search, members, make_study)
        by_name = {spec.name: spec for group in study.groups for spec in group.specs}
        following = []
        for member in range(len(params)):
            spec, before, number = by_name[names[member]], None, 0
            if generation:
                source = sources[generation - 1][member]
                before = specs[source].name, generation
                # One that copies another draws random numbers of its own from there on.
                number = 0 if source == member else member + 1
            following.append(_stretch(spec, search, before, generation + 1, number))
        specs = following
    assert study is not None, "a population has a first generation"
    # Members differ in numbers alone: they are one program.
    (group,) = study.groups
    unique = tuple({spec.name: spec for spec in specs}.values())
    made = Study((dataclasses.replace(group, specs=unique),), study.left_out)
    return made, [spec.name for spec in specs]


def tell(search: Search, state: State, step: Step, store: Store, path: Path) -> State:
    """Write down what the runs of a step returned, and which trials are given up."""
    points = {
        str(number): _means(search, store, run, step.points) for number, run in step.runs.items()
    }
    trials = list(state.trials)
    for number, means in points.items():
        trial = trials[int(number)]
        trials[int(number)] = trial._replace(points=trial.points + tuple(map(tuple, means)))
    pruned = [] if search.num_generations else given_up(trials, search.plan)
    log.append(path, {"kind": REACHED, "points": points, "pruned": pruned})
    return reread(path)


def _means(
    search: Search, store: Store, run: str, points: Sequence[int]
) -> list[list[float | None]]:
    """Mean returns ``[points][seeds]`` of a run at points of its curve; None: it diverged."""
    curves = []
    for seed in search.plan.seeds:
        result, history = store.read_result(run, seed), store.read_history(run, seed)
        steps, means = history["eval_env_steps"], history["eval_return"]
        total = result["env_steps"]["requested"]
        curve: list[float | None] = []
        for point in points:
            nearest = int(np.argmin(np.abs(steps - total * point / search.plan.num_points)))
            value = float(means[nearest])
            bad = result["status"] == "diverged" or not np.isfinite(value)
            curve.append(None if bad else value)
        curves.append(curve)
    return [list(point) for point in zip(*curves, strict=True)]


# The verdict


def arm_of(search: Search, trial: Trial) -> str:
    """A trial's arm in words."""
    return arm_name(search.technique, trial.params)


def lineage(state: State, member: int) -> list[Params]:
    """The hyper-parameters of a population's member in each generation, as far as it copied."""
    path = []
    for generation in range(len(state.histories) - 1, -1, -1):
        path.append(state.histories[generation][member])
        if generation:
            member = state.sources[generation - 1][member]
    return path[::-1]

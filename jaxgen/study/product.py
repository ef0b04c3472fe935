"""A study is a product of axes: which runs there are, what they are called, what is an alias.

Nothing here imports JAX, so that a plan can be listed at once.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card
from jaxgen.study.config import Config, replace
from jaxgen.study.presets import algorithm_card, check_defined, is_defined, preset
from jaxgen.study.programs import program_key
from jaxgen.study.spec import Evaluation, RunSpec
from jaxgen.system.errors import BadInput
from jaxgen.techniques import canonical_name

MAX_SEED = 2**31 - 1
"""Seeds stay below; the upper half of the folds belongs to evaluation."""


@dataclass(frozen=True)
class Group:
    """The runs of one (environment, algorithm, rule of the technique): one compiled program, a
    lane for each run."""

    algorithm: str
    environment: str
    specs: tuple[RunSpec, ...]
    """One per arm that is trained, in the study's order."""
    aliases: tuple[RunSpec, ...]
    """Arms that are others by another name; never trained."""
    seeds: tuple[int, ...]

    @property
    def config(self) -> Config:
        """The configuration that all arms share."""
        return self.specs[0].config

    @property
    def name(self) -> str:
        """What its checkpoints and units are named after."""
        return f"{self.algorithm}_{self.environment}"

    @property
    def lanes(self) -> list[tuple[RunSpec, int]]:
        """(arm, seed) pairs, seeds innermost."""
        return [(spec, seed) for spec in self.specs for seed in self.seeds]


@dataclass(frozen=True)
class Study:
    """Groups in the order in which they run."""

    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()
    """Algorithm and technique of arms that the algorithm does not have."""

    @property
    def lanes(self) -> list[tuple[RunSpec, int]]:
        """(arm, seed) pairs of all groups."""
        return [lane for group in self.groups for lane in group.lanes]

    @property
    def num_runs(self) -> int:
        """Rows of the study: trained runs and aliases."""
        return sum((len(g.specs) + len(g.aliases)) * len(g.seeds) for g in self.groups)

    @property
    def num_trained(self) -> int:
        """Runs that are trained."""
        return len(self.lanes)


def make_study(
    environments: Sequence[str],
    algorithms: Sequence[str],
    techniques: Sequence[str],
    seeds: Sequence[int],
    *,
    evaluation: Evaluation = Evaluation(),
    total_steps: int | None = None,
    quick: bool = False,
    study_seed: int = 0,
) -> Study:
    """Build and check the product of the axes.

    Raises:
      ValueError: an unknown name, a repeated axis entry, a technique that none of the
        algorithms has, a seed that is negative or repeated, a budget too small for one
        iteration, a level outside [0, 1].
    """
    _check_axis("environment", environments)
    _check_axis("algorithm", algorithms)
    names = [canonical_name(name) for name in techniques]
    _check_axis("technique", names)
    check_seeds(seeds)
    evaluation.validate()
    if evaluation.levels[-1] != 1.0:
        raise BadInput(f"levels {evaluation.levels!r} must end with 1 for the scores of a study")
    for name in names:
        if not any(is_defined(name, algorithm) for algorithm in algorithms):
            check_defined(name, algorithms[0])
    left_out = tuple(
        f"{algorithm} {name}"
        for algorithm in algorithms
        for name in names
        if not is_defined(name, algorithm)
    )
    groups = [
        group
        for environment in environments
        for algorithm in algorithms
        for group in _make_groups(environment, algorithm, names, tuple(seeds), evaluation,
                                  total_steps, quick, study_seed)
    ]
    return Study(tuple(groups), left_out)


def _make_groups(
    environment: str, algorithm: str, techniques: Sequence[str], seeds: tuple[int, ...],
    evaluation: Evaluation, total_steps: int | None, quick: bool, study_seed: int,
) -> Iterator[Group]:
    """A group for each program among the techniques that the algorithm has."""
    config = preset(algorithm, environment)
    task = environment_card(environment).task
    options = dict(task.options)
    if quick:
        config, options = _quick(algorithm, config), options | dict(task.quick)
    if total_steps is not None:
        config = replace(config, {"total_steps": total_steps})
    config.validate()
    evaluation = _affordable(evaluation, environment)

    def spec(technique: str, alias_of: str | None = None) -> RunSpec:
        return RunSpec(algorithm, environment, technique, config, options, evaluation, study_seed,
                       quick, alias_of)

    techniques = [name for name in techniques if is_defined(name, algorithm)]
    alias = algorithm_card(algorithm).techniques.aliases
    own = {name: spec(name) for name in techniques if name not in alias}
    # What an alias stands for is trained even where only the alias was asked for.
    for name in techniques:
        if name in alias:
            own.setdefault(alias[name], spec(alias[name]))
    aliases = tuple(spec(name, own[alias[name]].name) for name in techniques if name in alias)
    programs: dict[tuple, list[RunSpec]] = {}
    for each in own.values():
        programs.setdefault(program_key(each.config, each.technique_values), []).append(each)
    for specs in programs.values():
        names = {each.name for each in specs}
        copies = tuple(each for each in aliases if each.alias_of in names)
        yield Group(algorithm, environment, tuple(specs), copies, seeds)


def _affordable(evaluation: Evaluation, environment: str) -> Evaluation:
    """What an environment's time allows of the evaluation that was asked for."""
    limits = environment_card(environment).limits
    if evaluation.probe and not limits.can_probe:
        raise BadInput(
            f"{environment} cannot be probed for the agreement of gradients: leave out the probe, "
            "or the environment"
        )
    return dataclasses.replace(
        evaluation,
        episodes=min(evaluation.episodes, limits.episodes),
        curve_episodes=min(evaluation.curve_episodes, limits.curve_episodes),
        min_s0=evaluation.min_s0 if limits.min_s0 is None else limits.min_s0,
    )


def least_s0(environment: str) -> float:
    """The least s(0) of a policy that learned, see `jaxgen.evaluation.scores.score_curve`."""
    card = ENVIRONMENT_CARDS.get(environment)
    least = card.limits.min_s0 if card else None
    return Evaluation.min_s0 if least is None else least


def _quick(algorithm: str, config: Config) -> Config:
    """Cut the work to seconds: enough to see every part move, not enough to learn."""
    changes = {"total_steps": 12 * config.steps_per_iteration}
    changes |= algorithm_card(algorithm).facts.quick(config)
    changes["total_steps"] = min(config.total_steps, changes["total_steps"])
    return replace(config, changes)


def _check_axis(kind: str, names: Sequence[str]) -> None:
    if not names:
        raise BadInput(f"no {kind} given; name at least one")
    for name in names:
        if list(names).count(name) > 1:
            raise BadInput(f"{kind} {name!r} is given twice; name each once")


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ValueError unless there are seeds, whole, in range and each once."""
    if not seeds:
        raise BadInput("no seeds given; name at least one")
    for seed in seeds:
        if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise BadInput(
                f"seed {seed!r} is not allowed; use whole numbers from 0 to {MAX_SEED}"
            )
        if list(seeds).count(seed) > 1:
            raise BadInput(f"seed {seed!r} is given twice; name each seed once")

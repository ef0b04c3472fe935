"""A study is a product of axes: which runs there are, what they are called, what is an alias.

Nothing here imports JAX, so that a plan can be listed at once.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxgen.study.arms import Arm, is_possible, parse_arm, technique_of
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card, registry_name
from jaxgen.study.config import Config, replace
from jaxgen.study.networks import IMAGE_ENCODERS
from jaxgen.study.presets import (
    algorithm_card,
    base_algorithm,
    check_defined,
    is_defined,
    preset,
    setups_of,
)
from jaxgen.study.programs import program_key
from jaxgen.study.spec import Evaluation, RunSpec
from jaxgen.system.errors import BadInput
from jaxgen.system.files import MAX_NAME
from jaxgen.system.values import items, whole

QUICK_ITERATIONS, QUICK_IMAGES = 12, 3
"""Iterations of a quick run, and of one that reads images."""
MAX_SEED = 2**31 - 1
"""Seeds stay below; the upper half of the folds belongs to evaluation."""


@dataclass(frozen=True)
class Group:
    """Runs of an algorithm on an environment that are one compiled program, a lane for each."""

    algorithm: str
    environment: str
    specs: tuple[RunSpec, ...]
    """One per arm that is trained, in the study's order."""
    aliases: tuple[RunSpec, ...]
    """Arms that are others by another name; never trained."""
    seeds: tuple[int, ...]

    @property
    def config(self) -> Config:
        """The first arm's configuration, whose static fields all arms have."""
        return self.specs[0].config

    @property
    def name(self) -> str:
        """The name that its checkpoints and units begin with."""
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
    """Algorithm and technique of arms that the algorithm does not have, and algorithm and
    environment where it has no configuration."""

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
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    evaluation: Evaluation = Evaluation(),
    total_steps: int | None = None,
    quick: bool = False,
    study_seed: int = 0,
) -> Study:
    """Build and check the product of the axes; ``arms`` are words, see `jaxgen.study.arms`.

    Raises:
      BadInput: an unknown name, a repeated axis entry, an arm that none of the algorithms has, a
        seed that is negative or repeated, a hyper-parameter that is not allowed, a budget too
        small for one iteration, a level outside [0, 1].
    """
    environments = [registry_name(name) for name in environments]
    _check_axis("environment", environments)
    _check_axis("algorithm", algorithms)
    _check_offered(arms, algorithms)
    by_algorithm = {name: _arms_of(name, arms) for name in algorithms}
    seeds, study_seed = check_seeds(seeds), check_seed("study_seed", study_seed)
    evaluation.validate()
    if evaluation.levels[-1] != 1.0:
        raise BadInput(f"levels {evaluation.levels!r} must end with 1 for the scores of a study")
    places = [
        (environment, algorithm)
        for environment in environments
        for algorithm in _configured(environment, algorithms)
    ]
    left_out = (
        *(f"{algorithm} {name}" for algorithm in algorithms for name in arms
          if not _has(algorithm, name)),
        *(f"{algorithm} on {environment}" for environment in environments
          for algorithm in algorithms if (environment, algorithm) not in places),
    )  # fmt: skip
    groups = [
        group
        for environment, algorithm in places
        for group in _make_groups(
            _first_spec(environment, algorithm, evaluation, total_steps, quick, study_seed),
            by_algorithm[algorithm], seeds,
        )
    ]
    return Study(tuple(groups), left_out)


def _configured(environment: str, algorithms: Sequence[str]) -> list[str]:
    """The algorithms that have a configuration for an environment; BadInput: none of them has."""
    environment_card(environment)
    configured = [name for name in algorithms if environment in setups_of(base_algorithm(name))]
    if not configured:
        preset(algorithms[0], environment)
    return configured


def _arms_of(algorithm: str, names: Sequence[str]) -> list[Arm]:
    """The arms that an algorithm has, each once."""
    config = algorithm_card(algorithm).config
    arms = [parse_arm(name, config) for name in names if _has(algorithm, name)]
    _check_once("technique", [arm.name for arm in arms])
    return arms


def _has(algorithm: str, name: str) -> bool:
    """Whether an algorithm has an arm's technique and its hyper-parameters."""
    config = algorithm_card(algorithm).config
    return is_defined(technique_of(name), algorithm) and is_possible(name, config)


def _check_offered(arms: Sequence[str], algorithms: Sequence[str]) -> None:
    """Raise BadInput for an arm that none of the algorithms has, or where there is no arm."""
    _check_given("technique", arms)
    for name in arms:
        if not any(_has(algorithm, name) for algorithm in algorithms):
            check_defined(technique_of(name), algorithms[0])
            parse_arm(name, algorithm_card(algorithms[0]).config)


def _first_spec(
    environment: str, algorithm: str, evaluation: Evaluation, total_steps: int | None,
    quick: bool, study_seed: int,
) -> RunSpec:
    """The baseline of an algorithm on an environment, which its other arms follow.

    Arms are checked, not this one: one of their hyper-parameters may be what makes a budget right.
    """
    config = preset(algorithm, environment)
    task = environment_card(environment).task
    options = dict(task.options)
    if quick:
        config = _quick(algorithm, environment, config)
        options, evaluation = options | dict(task.quick), _quicker(evaluation, environment)
    if total_steps is not None:
        config = replace(config, {"total_steps": total_steps})
    evaluation = _affordable(evaluation, environment)
    return RunSpec(
        algorithm, environment, "baseline", config, options, evaluation, study_seed, quick
    )


def _make_groups(first: RunSpec, arms: Sequence[Arm], seeds: Sequence[int]) -> Iterator[Group]:
    """A group for each program among the arms."""

    def spec(arm: Arm, alias_of: str | None = None) -> RunSpec:
        made = dataclasses.replace(
            first, technique=arm.technique, overrides=arm.overrides, alias_of=alias_of
        )
        _check_arm(made)
        return made

    alias = algorithm_card(first.algorithm).techniques.aliases
    stands_for = {
        arm: arm._replace(technique=alias[arm.technique]) for arm in arms if arm.technique in alias
    }
    trained = {arm: spec(arm) for arm in arms if arm not in stands_for}
    # What an alias stands for is trained even where only the alias was asked for.
    for other in stands_for.values():
        trained.setdefault(other, spec(other))
    aliases = [spec(arm, trained[other].name) for arm, other in stands_for.items()]
    programs: dict[tuple, list[RunSpec]] = {}
    for each in trained.values():
        programs.setdefault(program_key(each.config, each.technique_values), []).append(each)
    for specs in programs.values():
        names = {each.name for each in specs}
        copies = tuple(each for each in aliases if each.alias_of in names)
        yield Group(first.algorithm, first.environment, tuple(specs), copies, tuple(seeds))


def _check_arm(spec: RunSpec) -> None:
    """Raise BadInput where an arm's hyper-parameters are not allowed here."""
    config = spec.config
    config.validate()
    try:
        spec.technique_values.over(config.num_variations)
    except BadInput as error:
        raise BadInput(f"arm {spec.arm!r}: {error}") from error
    kinds = {config.network, spec.shared.network}
    if "mlp" in kinds and kinds & set(IMAGE_ENCODERS):
        raise BadInput(
            f"arm {spec.arm!r}: network = {config.network!r} is not allowed on "
            f"{spec.environment}, whose preset has {spec.shared.network!r}"
        )
    if len(spec.name) > MAX_NAME:
        raise BadInput(
            f"arm {spec.arm!r} has too long a name for a folder; change fewer hyper-parameters"
        )


def _affordable(evaluation: Evaluation, environment: str) -> Evaluation:
    """The evaluation that was asked for, as far as an environment's time allows it."""
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


def knows_ceiling(environment: str) -> bool:
    """Whether the ceilings of an environment are the best returns at its levels, as far as known
    here."""
    card = ENVIRONMENT_CARDS.get(environment)
    return card is None or card.limits.knows_ceiling


def _quick(algorithm: str, environment: str, config: Config) -> Config:
    """Cut the work to seconds: enough to see every part move, not enough to learn."""
    own = setups_of(base_algorithm(algorithm))[environment].quick
    config = replace(config, own)
    iterations = QUICK_IMAGES if config.network != "mlp" else QUICK_ITERATIONS
    changes = {"total_steps": iterations * config.steps_per_iteration}
    changes |= algorithm_card(algorithm).facts.quick(config)
    changes["total_steps"] = min(config.total_steps, changes["total_steps"])
    return replace(config, changes)


def _quicker(evaluation: Evaluation, environment: str) -> Evaluation:
    """An evaluation with fewer episodes, where each of them takes long."""
    most = environment_card(environment).limits.quick_episodes
    fewer = {name: min(getattr(evaluation, name), most) for name in ("episodes", "curve_episodes")}
    return dataclasses.replace(evaluation, **fewer)


def _check_axis(kind: str, names: Sequence[str]) -> None:
    _check_given(kind, names)
    _check_once(kind, names)


def _check_given(kind: str, names: Sequence[str]) -> None:
    if not names:
        raise BadInput(f"no {kind} given; name at least one")


def _check_once(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if list(names).count(name) > 1:
            raise BadInput(f"{kind} {name!r} is given twice; name each once")


def check_seeds(seeds: Iterable[Any]) -> tuple[int, ...]:
    """Seeds of any type as Python's numbers.

    Raises BadInput unless there are some, whole, in range and each once.
    """
    checked = tuple(check_seed("seed", seed) for seed in items("seeds", seeds))
    if not checked:
        raise BadInput("no seeds given; name at least one")
    seed, count = Counter(checked).most_common(1)[0]
    if count > 1:
        raise BadInput(f"seed {seed} is given twice; name each seed once")
    return checked


def check_seed(name: str, seed: Any) -> int:
    """A seed of any type as Python's number; BadInput unless it is whole and in range."""
    number = whole(seed)
    if number is None or not 0 <= number <= MAX_SEED:
        raise BadInput(
            f"{name} {seed!r} is not allowed; use whole numbers from 0 to {MAX_SEED}"
        )
    return number

"""A sweep as data: the studies of many configuration files, joined so that runs share programs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.study.arms import technique_of
from jaxgen.study.product import Group, Study
from jaxgen.study.programs import program_key
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput


def joined(studies: Mapping[str, Study]) -> Study:
    """One study of several, whose runs are followed through their training.

    Args:
      studies: name of a configuration -> what it asks for.

    Raises:
      BadInput: there is none, or two configurations ask for the same run.
    """
    if not studies:
        raise BadInput("there is no configuration; write some with --make-configs DIR")
    groups: dict[Any, Group] = {}
    origins: dict[tuple[str, int], str] = {}
    for name, study in studies.items():
        for group in study.groups:
            specs = tuple(followed(spec) for spec in group.specs)
            for spec in specs:
                for seed in group.seeds:
                    before = origins.setdefault((spec.name, seed), name)
                    if before != name:
                        raise BadInput(
                            f"{name} and {before} ask for the same run, {spec.experiment} with "
                            f"seed {seed}; leave one of them out"
                        )
            first = specs[0]
            program = program_key(first.config, first.technique_values)
            key = group.algorithm, group.environment, program, group.seeds, first.quick
            if key in groups:
                specs = (*groups[key].specs, *specs)
            groups[key] = dataclasses.replace(group, specs=specs, aliases=())
    left_out = tuple(words for study in studies.values() for words in study.left_out)
    return Study(tuple(groups.values()), left_out)


def followed(spec: RunSpec) -> RunSpec:
    """A run that keeps its learning curve's episodes and the agent of its best point."""
    return dataclasses.replace(spec, followed=())


def folder_of(spec: RunSpec, seed: int) -> str:
    """The specified name of a run's folder, ``<env>_<algo>[_g<G>]_seed<N>``, with whatever else
    tells it from others."""
    words = [spec.environment.replace(":", "-"), spec.algorithm]
    overrides = dict(spec.overrides)
    if "group_size" in overrides:
        words.append(f"g{overrides.pop('group_size')}")
    if spec.arm != "baseline" and technique_of(spec.arm) != "baseline":
        words.append(technique_of(spec.arm))
    words += [f"{field}={_text(value)}" for field, value in overrides.items()]
    return "_".join([*words, f"seed{seed}"])


def check_folders(study: Study) -> None:
    """Raise BadInput where two runs would have one folder."""
    seen: dict[str, RunSpec] = {}
    for spec, seed in study.lanes:
        other = seen.setdefault(folder_of(spec, seed), spec)
        if other is not spec:
            raise BadInput(
                f"{spec.name} and {other.name} would both lie in {folder_of(spec, seed)}; give "
                "them folders of results of their own, --out"
            )


def swept_values(specs: Sequence[RunSpec], field: str) -> dict[str, list[RunSpec]]:
    """Runs by their value of a field, in the order of the values; those without it are left out."""
    having = [spec for spec in specs if hasattr(spec.config, field)]
    by_value: dict[Any, list[RunSpec]] = {}
    for spec in having:
        by_value.setdefault(getattr(spec.config, field), []).append(spec)
    return {_text(value): by_value[value] for value in sorted(by_value)}


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)

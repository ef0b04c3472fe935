"""The plan of a study in words, with an estimate of its time."""

from jaxgen.study.config import OffPolicyConfig
from jaxgen.study.presets import seconds_per_million
from jaxgen.study.product import Group, Study
from jaxgen.study.programs import program_words

SECONDS_PER_PROGRAM = 20.0
"""Compilation and evaluation of a program of a few dozen lanes, on two CPU cores."""


def estimated_seconds(group: Group) -> float:
    """A rough time of a group on two CPU cores."""
    steps = group.specs[0].own_steps * len(group.lanes)
    seconds = seconds_per_million(group.algorithm, group.environment)
    return SECONDS_PER_PROGRAM + seconds * steps / 1e6


def describe_plan(study: Study) -> str:
    """Cells, aliases, programs, env steps and estimated time as text."""
    lines = [f"{study.num_runs} runs, {study.num_trained} trained, {len(study.groups)} programs"]
    if any(spec.quick for group in study.groups for spec in group.specs):
        lines.append("QUICK: seconds of training, not a result")
    if study.left_out:
        lines.append(f"not defined, left out: {', '.join(study.left_out)}")
    for group in study.groups:
        lines += ["", *_describe_group(group)]
    total = sum(estimated_seconds(group) for group in study.groups)
    lines += ["", f"estimated time on two CPU cores: {total / 60:.0f} min"]
    return "\n".join(lines)


def _describe_group(group: Group) -> list[str]:
    lanes, steps = len(group.lanes), group.specs[0].own_steps
    seeds = ", ".join(map(str, group.seeds[:6])) + (", ..." if len(group.seeds) > 6 else "")
    special = "".join(f", {word}" for word in program_words(group.specs[0]))
    lines = [
        f"{group.algorithm} on {group.environment}{special}: {lanes} lanes x {steps:,} env steps "
        f"= {lanes * steps:,}{_updates(group)}; about {estimated_seconds(group):.0f} s; "
        f"seeds {seeds}"
    ]
    lines += [f"  {spec.name}" for spec in group.specs]
    lines += [f"  {spec.name}  (alias of {spec.alias_of})" for spec in group.aliases]
    return lines


def _updates(group: Group) -> str:
    """Updates for each env step, of algorithms that learn from a replay."""
    if not isinstance(group.config, OffPolicyConfig):
        return ""
    updates = group.config.updates_per_step
    return f"; {updates:.3g} update{'s' if updates != 1 else ''} a step"

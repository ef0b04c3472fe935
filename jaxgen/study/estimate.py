"""What a study will do, before it does it."""

from jaxgen.study.config import PROCGEN_GAMES
from jaxgen.study.product import Group, Study
from jaxgen.techniques import Rule

SECONDS_PER_MILLION = {
    ("ppo", "cartpole"): 20.0,
    ("dqn", "cartpole"): 25.0,
    ("es", "cartpole"): 0.8,
    ("ppo", "minigrid"): 14.0,
    ("dqn", "minigrid"): 18.0,
    ("es", "minigrid"): 1.0,
    ("ppo", "starpilot"): 1300.0,
    ("ppo-published", "starpilot"): 7000.0,
    ("dqn", "starpilot"): 5000.0,
    ("es", "starpilot"): 300.0,
}
"""Seconds of training per million env steps of a lane, measured on two CPU cores; those of
starpilot follow from measured parts (an image's way through the network and its gradient), but for
ppo-published, whose training was timed."""

SECONDS_PER_PROGRAM = 20.0
"""Compilation and evaluation of a program of a few dozen lanes, on two CPU cores."""


def estimated_seconds(group: Group) -> float:
    """A rough time of a group on two CPU cores."""
    steps = group.config.total_steps * len(group.lanes)
    environment = "starpilot" if group.environment in PROCGEN_GAMES else group.environment
    of_base = SECONDS_PER_MILLION.get((group.specs[0].base, environment), 10.0)
    seconds = SECONDS_PER_MILLION.get((group.algorithm, environment), of_base)
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
    lanes, steps = len(group.lanes), group.config.total_steps
    seeds = ", ".join(map(str, group.seeds[:6])) + (", ..." if len(group.seeds) > 6 else "")
    kind = group.specs[0].technique_values.rule
    rule = "" if kind is Rule.WEIGHTS else f", {kind.value}"
    lines = [
        f"{group.algorithm} on {group.environment}{rule}: {lanes} lanes x {steps:,} env steps "
        f"= {lanes * steps:,}; about {estimated_seconds(group):.0f} s; seeds {seeds}"
    ]
    lines += [f"  {spec.name}" for spec in group.specs]
    lines += [f"  {spec.name}  (alias of {spec.alias_of})" for spec in group.aliases]
    return lines

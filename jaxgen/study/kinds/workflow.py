"""The course of one training as data: its checkpoints, its learning curve, and where it goes on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxgen.study.config import replace
from jaxgen.study.fork import Fork
from jaxgen.study.product import Study
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput

CHECKPOINTS = (0.25, 0.5, 1.0)
"""Shares of training after which an agent is evaluated and filmed."""
NUM_POINTS = 20
"""Points of a learning curve where no frequency is given."""


def followed(
    study: Study, checkpoints: tuple[float, ...] = CHECKPOINTS, eval_steps: int = 0,
    keep_state: bool = True,
) -> Study:
    """A study whose only arm is followed through its training.

    Args:
      study: of one environment, algorithm and arm.
      checkpoints: shares of training, increasing to 1.
      eval_steps: env steps between points of the learning curve; 0: a twentieth of the budget.
      keep_state: keep the state at the end, so that a run with a larger budget can go on from it.

    Raises:
      BadInput: there are several arms, shares are not as above, or a checkpoint is no multiple of
        the env steps between points of the curve.
    """
    runs = [spec for group in study.groups for spec in group.specs]
    if len(runs) != 1:
        names = ", ".join(spec.experiment for spec in runs) or "none"
        raise BadInput(f"one arm is trained at a time, not {len(runs)}: {names}")
    (spec,), (group,) = runs, study.groups
    increasing = list(checkpoints) == sorted({share for share in checkpoints if 0 < share <= 1})
    if not increasing or not checkpoints or checkpoints[-1] != 1:
        raise BadInput(
            f"checkpoints {', '.join(f'{share:g}' for share in checkpoints)} are not allowed; use "
            "shares of training that increase to 1, as in .25 .5 1"
        )
    _check_aligned(spec, checkpoints, eval_steps)
    shared = replace(spec.shared, {"curve_steps": eval_steps}) if eval_steps else spec.shared
    evaluation = dataclasses.replace(spec.evaluation, curve_episodes=spec.evaluation.episodes)
    made = dataclasses.replace(
        spec, shared=shared, evaluation=evaluation, followed=checkpoints[:-1],
        snapshots=(1.0,) if keep_state else (),
    )
    return Study((dataclasses.replace(group, specs=(made,)),), study.left_out)


def _check_aligned(spec: RunSpec, checkpoints: tuple[float, ...], eval_steps: int) -> None:
    config = spec.config
    if eval_steps and not config.steps_per_iteration <= eval_steps <= config.total_steps:
        raise BadInput(
            f"an evaluation every {eval_steps} env steps is not allowed; use "
            f"{config.steps_per_iteration}, an iteration, to {config.total_steps}, the budget"
        )
    interval = eval_steps or config.total_steps / NUM_POINTS
    for share in checkpoints:
        steps = share * config.total_steps
        if abs(steps / interval - round(steps / interval)) > 1e-6:
            raise BadInput(
                f"checkpoint {share:g}, after {steps:g} of {config.total_steps} env steps, is no "
                f"multiple of the evaluation frequency, {interval:g} env steps; change the one or "
                "the other"
            )


def continued(spec: RunSpec, known: Mapping[str, Mapping[str, Any]]) -> RunSpec | None:
    """The same run, going on from the end of one with a smaller budget.

    Args:
      spec: the run.
      known: run name -> content of spec.json, of a folder.

    Returns:
      None where there is no such run.
    """
    asked, earlier = _without_budget(spec.to_dict()), []
    for name, other in known.items():
        budget = other["config"]["total_steps"]
        same = _without_budget(other) == asked
        if same and budget < spec.shared.total_steps and 1.0 in other.get("snapshots", ()):
            earlier.append((budget, name))
    if not earlier:
        return None
    budget, name = max(earlier)
    start = Fork(name, 1.0, 0, noise="none", budget=budget)
    return dataclasses.replace(spec, start=start)


def _without_budget(spec: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in spec["config"].items() if key != "total_steps"}
    kept = ("start", "snapshots", "followed")
    rest = {key: value for key, value in spec.items() if key not in kept}
    return rest | {"config": config}

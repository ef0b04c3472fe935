"""Our training of continuous control; every turn goes on from where the last one ended."""

from typing import Any

import jax
import numpy as np

from envs_jax import make_task
from jaxgen.algorithms import ALGORITHMS
from jaxgen.study.config import replace
from jaxgen.study.presets import base_algorithm, preset
from jaxgen.techniques import Technique
from jaxgen.training.build import make_program
from jaxgen.training.fit import num_padded
from jaxgen.training.loop import iterate
from jaxgen.training.program import stack_lanes
from worker import Run, timed

MAX_TURNS = 8


def train(
    algorithm: str, environment: str, num_seeds: int, begin_steps: int, turn_steps: int,
    overrides: dict[str, Any],
) -> tuple[Run, dict]:
    """Train seeds together as the matrix does, over as many devices as this process has.

    Args:
      algorithm: registry name or preset.
      environment: registry name, in JAX or on the host.
      num_seeds: lanes; padding counts no steps.
      begin_steps: env steps of a lane before the first turn, with those that learn nothing.
      turn_steps: env steps of a lane in a turn; both are whole iterations.
      overrides: of the preset's fields; the budget is that of `MAX_TURNS` turns.
    """
    budget = begin_steps + MAX_TURNS * turn_steps
    config = replace(preset(algorithm, environment), overrides | {"total_steps": budget})
    config.validate()
    begin, turn = (steps // config.steps_per_iteration for steps in (begin_steps, turn_steps))
    arm = config, Technique(levels=(0.0,) * config.num_variations)
    devices = jax.devices()[:num_seeds]
    program = make_program(
        make_task(environment), ALGORITHMS[base_algorithm(algorithm)], stack_lanes([arm], [0]),
        chunk=turn, devices=devices,
    )
    seeds = list(range(num_padded(num_seeds, program.capacity.num_devices, min_lanes=1)))
    stops = range(begin, begin + MAX_TURNS * turn + 1, turn)
    training = iterate(program, stack_lanes([arm] * len(seeds), seeds), stops=stops)

    def go_on() -> list[dict[str, Any]]:
        """Train to the next stop -> metrics ``[L, I]`` of each call of the program."""
        parts = []
        for step in training:
            length = step.segment.stop - step.segment.start
            parts.append({name: step.metrics[name][:num_seeds, :length] for name in EPISODES})
            if step.segment.stop in stops:
                jax.block_until_ready(step.carry)
                return parts
        raise RuntimeError(f"turn {MAX_TURNS + 1} is not possible; use {MAX_TURNS} or fewer")

    beginning, _ = timed(go_on)
    reached: list[float] = []

    def run() -> dict[str, Any]:
        seconds, parts = timed(go_on)
        reached.extend(_mean_return(parts))
        steps = num_seeds * turn * config.steps_per_iteration
        return {"steps": steps, "seconds": seconds, "return": reached[-1] if reached else None}

    return run, {
        "begin_seconds": beginning, "num_devices": len(devices),
        "return_of": "training episodes that ended in the last turn with any",
    }


EPISODES = ("reward", "episodes")
"""Metrics of an iteration: the mean return of the episodes that ended, and their number."""


def _mean_return(parts: list[dict[str, Any]]) -> list[float]:
    """The mean return of all episodes that ended, rounded; empty if there are none."""
    returns, counts = (
        np.concatenate([np.asarray(part[name]) for part in parts], 1) for name in EPISODES
    )
    ended = counts > 0
    if not ended.any():
        return []
    return [round(float(np.average(returns[ended], weights=counts[ended])), 1)]

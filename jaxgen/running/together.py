"""Train agents outside of a study: seeds of one arm, together as far as memory allows."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.results.result import trim_history
from jaxgen.running.reporter import History
from jaxgen.running.watching.console import Console
from jaxgen.study.config import Config
from jaxgen.study.programs import program_key
from jaxgen.techniques import Technique
from jaxgen.training.build import make_program
from jaxgen.training.fit import fit, in_turns, needed_devices, padded
from jaxgen.training.fork import begun_with
from jaxgen.training.loop import iterate
from jaxgen.training.program import Carry, Lanes, Program, stack_lanes
from jaxgen.types import HostTask, Task

Arm = tuple[Config, Technique]


def train(
    task: Task | HostTask, base: str, arm: Arm, seeds: Sequence[int], label: str,
    console: Console | None, vector: np.ndarray | None = None,
) -> list[tuple[np.ndarray, History]]:
    """Train an arm.

    Args:
      task: environment and variations.
      base: registry name of the algorithm.
      arm: configuration and technique.
      seeds: one agent for each.
      label: of what is trained, for a person.
      console: is told how far it is; None: nobody is.
      vector: parameters of the policy to begin with, float32 ``[D]``; None: new ones.

    Returns:
      The parameters ``[D]`` at the end, and the metrics by name ``[I]``, of each seed.

    Raises:
      ValueError: memory holds no lane, or the policy cannot be put into a new learner's state.
    """
    program = _program(task, base, arm, len(seeds))
    return [
        lane
        for turn in _turns(program, arm, seeds, label)
        for lane in _train_together(program, arm, turn, console, label, vector)
    ]


_programs: dict[Any, Program] = {}
"""Those that were made last, by what they are compiled for, so that other arms and seeds find what
is compiled."""
MAX_PROGRAMS = 8


def _program(
    task: Task | HostTask, base: str, arm: Arm, num_seeds: int
) -> Program:
    devices = needed_devices(num_seeds)
    key = task, base, program_key(*arm), len(devices)
    program = _programs.pop(key, None) or make_program(
        task, ALGORITHMS[base], stack_lanes([arm], [0]), devices=devices
    )
    _programs[key] = program
    while len(_programs) > MAX_PROGRAMS:
        _programs.pop(next(iter(_programs)), None)
    return program


def _turns(
    program: Program, arm: Arm, seeds: Sequence[int], label: str
) -> list[list[int]]:
    """The seeds that train together, as many as the matrix would take."""
    fit_result = fit(program.capacity, stack_lanes([arm], [0]), len(seeds))
    if not fit_result.fits:
        raise ValueError(f"{label}: {fit_result}; {fit_result.remedy()}")
    return in_turns(seeds, min(fit_result.asked, fit_result.fits))


def _train_together(
    program: Program, arm: Arm, seeds: list[int], console: Console | None, label: str,
    vector: np.ndarray | None,
) -> list[tuple[np.ndarray, History]]:
    """The parameters ``[D]`` at the end of the training of each seed, and its metrics."""
    padded_seeds = padded(seeds, program.capacity)
    lanes = stack_lanes([arm] * len(padded_seeds), padded_seeds)
    parts, carry = [], None
    watch = None if console is None else _Watch(console, label, arm[0].total_steps * len(seeds))

    def begin(lanes: Lanes, carry: Carry) -> Carry:
        return carry if vector is None else begun_with(program, lanes, carry, vector)

    for step in iterate(program, lanes, begin=begin):
        carry, length = step.carry, step.segment.stop - step.segment.start
        parts.append({name: np.asarray(x)[:, :length] for name, x in step.metrics.items()})
        if watch is not None:
            watch.step(float(parts[-1]["env_steps"][: len(seeds), -1].sum()))
    assert carry is not None, "a budget holds an iteration"
    if watch is not None:
        watch.end(len(seeds))
    params = np.asarray(program.learner.params(lanes, carry))
    histories = {name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]}
    return [
        (vector, trim_history({name: values[lane] for name, values in histories.items()}))
        for lane, vector in enumerate(params[: len(seeds)])
    ]


class _Watch:
    """A training that is told of; the first step compiles, and no rate is known until the next."""

    def __init__(self, console: Console, label: str, total: int):
        self._console, self._label, self._total = console, label, float(total)
        self._began = time.perf_counter()
        self._first: tuple[float, float] | None = None

    def step(self, done: float) -> None:
        """Say how many env steps of all lanes are done."""
        now = time.perf_counter()
        before, then = self._first = self._first or (done, now)
        rate = (done - before) / (now - then) if now > then else 0.0
        self._console.progress(self._label, done, self._total, rate)

    def end(self, num_agents: int) -> None:
        """Say that all of them are trained."""
        seconds = time.perf_counter() - self._began
        self._console.note(f"{self._label}: {num_agents} agents in {seconds:.0f} s")

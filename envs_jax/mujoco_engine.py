"""MuJoCo behind simulations that are set one by one, each in a world of its own; no JAX.

One `mujoco.batch.Batch` holds all simulations of a model and steps them on the threads of the
machine, with the bits of a loop in Python at any number of threads. A simulation's future depends
on its row of the engine's state and on its level.
"""

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

VERSION = "3.17.0"
"""The only version whose bits are those that results were computed with."""
INSTALL = f'pip install "mujoco=={VERSION}"'


class Factor(NamedTuple):
    """A part of a model that is scaled with the level v, by 1 + change x v."""

    word: str
    """Its name in a description of a level."""
    change: float
    fields: Mapping[str, Any]
    """Fields of the model, with the part of the last axis that is scaled."""


WHOLE, FIRST = slice(None), slice(1)
FACTORS = {
    "mass": Factor("masses", 0.5, {"body_mass": WHOLE, "body_inertia": WHOLE}),
    "friction": Factor("sliding friction", -0.75, {"geom_friction": FIRST}),
    "gear": Factor("gear", -0.45, {"actuator_gear": WHOLE}),
}


def missing() -> str | None:
    """Say what is missing before a robot can be simulated, and a remedy; None: nothing is."""
    found = installed()
    if found is None:
        return f"mujoco is not installed; install it: {INSTALL}"
    if found != VERSION:
        return f"mujoco {found} computes other numbers than {VERSION}; install that: {INSTALL}"
    return None


def installed() -> str | None:
    """The version of mujoco that is installed; None: there is none."""
    try:
        return importlib.metadata.version("mujoco")
    except importlib.metadata.PackageNotFoundError:
        return None


def num_threads() -> int:
    """How many threads step a batch: the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scale_of(factor: str, level: Any) -> Any:
    """Scale of a factor at levels of any shape, float64."""
    # Levels of training are of 32 bits: those of evaluation make the same worlds.
    return 1 + FACTORS[factor].change * np.float64(np.float32(level))


class Bodies:
    """Simulations of a model; rows of its arrays are simulations.

    Args:
      name: of the environment, for errors.
      make_model: makes the model of level 0.
      num: S, how many simulations.
      factors: names of the `FACTORS` that the level shifts.

    Raises:
      ValueError: mujoco is not installed, or another version of it.
    """

    def __init__(
        self, name: str, make_model: Callable[[], Any], num: int, factors: tuple[str, ...]
    ):
        batch = import_module("mujoco.batch")
        self._error, self._enums = batch.SimulationError, import_module("mujoco")
        self.model = make_model()
        self.levels = np.zeros(num, np.float32)
        self._name, self._factors = name, factors
        self._batch = batch.Batch(self.model, num, min(num_threads(), num))
        self._worlds = {
            field: self._batch.expand(field) for factor in factors
            for field in FACTORS[factor].fields
        }  # fmt: skip
        self.qpos, self.qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        """Positions and velocities, float64 ``[S, nq]`` and ``[S, nv]``: live views."""
        self._controls = self._batch.bind("ctrl")

    def set_levels(self, sims: np.ndarray, levels: np.ndarray) -> None:
        """Give simulations the worlds of these levels, where they are in others."""
        levels = np.asarray(levels, np.float32)
        new = self.levels[sims] != levels
        sims, levels = sims[new], levels[new]
        if not len(sims):
            return
        for factor in self._factors:
            scale = scale_of(factor, levels)
            for field, part in FACTORS[factor].fields.items():
                usual = getattr(self.model, field)
                values = np.tile(usual, (len(sims), *(1,) * usual.ndim))
                values[..., part] *= scale.reshape(-1, *(1,) * usual.ndim)
                self._worlds[field][sims] = values
        self._batch.set_const(sims)
        self.levels[sims] = levels

    def begin(self, sims: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Start simulations anew at positions ``[n, nq]`` and velocities ``[n, nv]``."""
        self._batch.reset(sims, stage=int(self._enums.mjtStage.mjSTAGE_NONE))
        self.qpos[sims], self.qvel[sims] = qpos, qvel
        self._call(self._batch.forward, sims)

    def step(self, controls: np.ndarray, num_steps: int) -> None:
        """Advance all simulations by steps of the engine under finite controls ``[S, nu]``.

        Raises:
          ValueError: the engine gave up.
        """
        self._controls[:] = controls
        self._call(self._batch.step, nstep=num_steps)

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """All that the next steps of simulations depend on."""
        return {"engine": self._batch.state[sims].copy(), "levels": self.levels[sims].copy()}

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `get` gave for as many simulations."""
        self.set_levels(np.arange(len(self.levels))[sims], state["levels"])
        self._batch.state[sims] = state["engine"]

    def _call(self, function: Callable[..., None], *args: Any, **options: Any) -> None:
        """Call the engine; ValueError says in one line what it reports."""
        try:
            function(*args, **options)
        except self._error as error:
            raise ValueError(f"{self._name}: {' '.join(str(error).split())}") from error
        counts = self._batch.warning[:, :, 1]
        if counts.any():
            sim, kind = np.argwhere(counts)[0]
            counts[:] = 0
            raise ValueError(
                f"{self._name}: simulation {sim} is unstable, or too large for the engine "
                f"({self._enums.mjtWarning(kind).name})"
            )

"""MuJoCo behind simulations that are set one by one, each in a world of its own; no JAX.

One `mujoco.batch.Batch` holds all simulations of a model and steps them on the threads of the
machine, with the bits of a loop in Python at any number of threads. A simulation's future depends
on its row of the engine's state and on its level. Forces of contacts, which the batch does not
compute, come from a pool of single simulations on as many threads.
"""

import importlib.metadata
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
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


class Bodies(ABC):
    """Simulations of a model; rows of its arrays are simulations.

    Args:
      name: of the environment, for errors.
      model: that of level 0.
      num: S, how many simulations.
      factors: names of the `FACTORS` that the level shifts.
    """

    qpos: np.ndarray
    """Positions float64 ``[S, nq]``."""
    qvel: np.ndarray
    """Velocities float64 ``[S, nv]``."""
    controls: np.ndarray
    """Those of the last step, float64 ``[S, nu]``."""
    outputs: Mapping[str, np.ndarray]
    """Other fields of the engine's data by name, ``[S, ...]``, as the last evaluation left them."""
    masses: np.ndarray
    """Those of the bodies, float64 ``[S, nbody]``."""

    def __init__(self, name: str, model: Any, num: int, factors: tuple[str, ...]):
        self.model, self.levels = model, np.zeros(num, np.float32)
        self.masses = np.tile(model.body_mass, (num, 1))
        self._name, self._factors = name, factors

    def set_levels(self, sims: np.ndarray, levels: np.ndarray) -> None:
        """Give simulations the worlds of these levels, where they are in others."""
        levels = np.asarray(levels, np.float32)
        new = self.levels[sims] != levels
        sims, levels = sims[new], levels[new]
        if len(sims):
            self._enter(sims, levels)
            self.levels[sims] = levels
            for field, values in shifted(self.model, self._factors, levels):
                if field == "body_mass":
                    self.masses[sims] = values

    @abstractmethod
    def _enter(self, sims: np.ndarray, levels: np.ndarray) -> None:
        """Give simulations the worlds of these levels."""

    @abstractmethod
    def begin(self, sims: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Start simulations anew at positions ``[n, nq]`` and velocities ``[n, nv]``."""

    @abstractmethod
    def step(self, controls: np.ndarray, num_steps: int) -> None:
        """Advance all simulations by steps of the engine under finite controls ``[S, nu]``.

        Raises:
          ValueError: the engine gave up.
        """

    @abstractmethod
    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """All that the next steps of simulations depend on."""

    @abstractmethod
    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `get` gave for as many simulations."""

    def _unstable(self, sim: int, warning: str) -> ValueError:
        return ValueError(
            f"{self._name}: simulation {sim} is unstable, or too large for the engine ({warning})"
        )


class Batched(Bodies):
    """All simulations in one batch of the engine, whose arrays are views; `Bodies`."""

    def __init__(
        self, name: str, model: Any, num: int, factors: tuple[str, ...], outputs: tuple[str, ...]
    ):
        super().__init__(name, model, num, factors)
        batch = import_module("mujoco.batch")
        self._error, self._enums = batch.SimulationError, import_module("mujoco")
        self._batch = batch.Batch(model, num, min(num_threads(), num))
        self._worlds = {
            field: self._batch.expand(field) for factor in factors
            for field in FACTORS[factor].fields
        }  # fmt: skip
        self.qpos, self.qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self.controls = self._batch.bind("ctrl")
        self.outputs = {field: self._batch.bind(field) for field in outputs}

    def _enter(self, sims: np.ndarray, levels: np.ndarray) -> None:
        for field, values in shifted(self.model, self._factors, levels):
            self._worlds[field][sims] = values
        self._batch.set_const(sims)

    def begin(self, sims: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """See `Bodies`."""
        self._batch.reset(sims, stage=int(self._enums.mjtStage.mjSTAGE_NONE))
        self.qpos[sims], self.qvel[sims] = qpos, qvel
        self._call(self._batch.forward, sims)

    def step(self, controls: np.ndarray, num_steps: int) -> None:
        """See `Bodies`."""
        self.controls[:] = controls
        self._call(self._batch.step, nstep=num_steps)

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """See `Bodies`."""
        return {"engine": self._batch.state[sims].copy(), "levels": self.levels[sims].copy()}

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """See `Bodies`."""
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
            raise self._unstable(sim, self._enums.mjtWarning(kind).name)


class Pooled(Bodies):
    """Single simulations on threads, which know the forces of contacts; `Bodies`."""

    def __init__(
        self, name: str, model: Any, num: int, factors: tuple[str, ...], outputs: tuple[str, ...]
    ):
        super().__init__(name, model, num, factors)
        self._engine = import_module("mujoco")
        self._data = [self._engine.MjData(model) for _ in range(num)]
        self._models, self._world = {np.float32(0): model}, [model] * num
        self._kind = self._engine.mjtState.mjSTATE_INTEGRATION
        self.controls = np.zeros((num, model.nu))
        self._copied = {
            field: np.zeros((num, *np.shape(getattr(self._data[0], field))))
            for field in ("qpos", "qvel", *outputs)
        }
        self.qpos, self.qvel = self._copied["qpos"], self._copied["qvel"]
        self.outputs = {field: self._copied[field] for field in outputs}
        self._num_threads = min(num_threads(), num)
        self._threads = ThreadPoolExecutor(self._num_threads)

    def _enter(self, sims: np.ndarray, levels: np.ndarray) -> None:
        for sim, level in zip(sims, levels):
            if level not in self._models:
                self._models[level] = model = copy(self.model)
                for field, values in shifted(self.model, self._factors, levels[levels == level]):
                    getattr(model, field)[:] = values[0]
                self._engine.mj_setConst(model, self._engine.MjData(model))
            self._world[sim] = self._models[level]

    def begin(self, sims: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """See `Bodies`."""
        for sim, position, velocity in zip(sims, qpos, qvel):
            data, model = self._data[sim], self._world[sim]
            self._engine.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = position, velocity
            self._engine.mj_forward(model, data)
            self._copy(sim)

    def step(self, controls: np.ndarray, num_steps: int) -> None:
        """See `Bodies`."""
        self.controls[:] = controls
        parts = np.array_split(np.arange(len(self._data)), self._num_threads)
        list(self._threads.map(lambda sims: self._advance(sims, num_steps), parts))

    def _advance(self, sims: np.ndarray, num_steps: int) -> None:
        for sim in sims:
            data, model = self._data[sim], self._world[sim]
            data.ctrl[:] = self.controls[sim]
            self._engine.mj_step(model, data, num_steps)
            # The step itself leaves the forces on bodies as they were.
            self._engine.mj_rnePostConstraint(model, data)
            counts = data.warning.number
            if counts.any():
                kind = int(np.flatnonzero(counts)[0])
                counts[:] = 0
                raise self._unstable(sim, self._engine.mjtWarning(kind).name)
            self._copy(sim)

    def _copy(self, sim: int) -> None:
        for field, values in self._copied.items():
            values[sim] = getattr(self._data[sim], field)

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """See `Bodies`."""
        states = np.zeros((len(self._data), self._engine.mj_stateSize(self.model, self._kind)))
        for sim in range(len(self._data))[sims]:
            self._engine.mj_getState(self.model, self._data[sim], states[sim], self._kind)
        copied = {field: values[sims].copy() for field, values in self._copied.items()}
        return {"engine": states[sims], "levels": self.levels[sims].copy()} | copied

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """See `Bodies`."""
        numbers = np.arange(len(self.levels))[sims]
        self.set_levels(numbers, state["levels"])
        for sim, row in zip(numbers, state["engine"]):
            self._engine.mj_setState(self._world[sim], self._data[sim], row, self._kind)
        for field, values in self._copied.items():
            values[sims] = state[field]


def shifted(
    model: Any, factors: tuple[str, ...], levels: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Fields of a model at levels ``[n]``, float64 ``[n, ...]``."""
    for factor in factors:
        scale = scale_of(factor, levels)
        for field, part in FACTORS[factor].fields.items():
            usual = getattr(model, field)
            values = np.tile(usual, (len(levels), *(1,) * usual.ndim))
            values[..., part] *= scale.reshape(-1, *(1,) * usual.ndim)
            yield field, values

"""The record that tells one robot from another, and parts that several have."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from envs_jax.mujoco.engine import Bodies

Options = Mapping[str, Any]
"""Options of a task by name, checked."""
Start = tuple[np.ndarray, np.ndarray]
"""Positions ``[nq]`` and velocities ``[nv]``."""


class Step(NamedTuple):
    """Pay and ends of a step of the task, of all simulations."""

    reward: np.ndarray
    """float64 ``[S]``."""
    terminated: np.ndarray
    """bool ``[S]``."""


class Robot(NamedTuple):
    """An environment at level 0; S is the number of its simulations."""

    model: str
    """``"module:function"`` of `envs_jax.mujoco.models` that makes its model."""
    sizes: Callable[[Options], tuple[int, int]]
    """Options -> numbers of an observation, numbers of an action."""
    draw: Callable[[np.random.Generator, Any, float], Start]
    """(generator, model, scale of the noise) -> a start, drawn in Gymnasium's order."""
    observe: Callable[[Bodies, Options], np.ndarray]
    """Observations float64 ``[S, F]``."""
    step: Callable[[Bodies, np.ndarray, Options], Step]
    """(bodies, actions float32 ``[S, A]`` in the task's units, options)."""
    max_episode_steps: int = 1000
    reach: float = 1.0
    """The largest number of an action."""
    outputs: tuple[str, ...] = ()
    """Fields of the engine's data that it reads beside positions and velocities."""
    feels_contacts: bool = False
    """Whether it reads forces of contacts, which the engine's batch does not compute."""


# Starts


def near(model: Any, generator: np.random.Generator, scale: float) -> np.ndarray:
    """Positions near the pose of the model, uniform."""
    return model.qpos0 + generator.uniform(-scale, scale, model.nq)


def uniform_start(generator: np.random.Generator, model: Any, scale: float) -> Start:
    """Uniform positions, then uniform velocities."""
    return near(model, generator, scale), generator.uniform(-scale, scale, model.nv)


def normal_start(generator: np.random.Generator, model: Any, scale: float) -> Start:
    """Uniform positions, then normal velocities."""
    return near(model, generator, scale), scale * generator.standard_normal(model.nv)


# Steps


def seconds_of(bodies: Bodies, options: Options) -> float:
    """Duration of a step of the task."""
    return bodies.model.opt.timestep * options["frame_skip"]


def control_cost(action: np.ndarray, options: Options) -> np.ndarray:
    """The cost of actions, in their 32 bits, as Gymnasium computes it."""
    return options["ctrl_cost_weight"] * np.square(action).sum(1)


def speed_of_step(bodies: Bodies, action: np.ndarray, options: Options) -> np.ndarray:
    """Step, and return the speed of the first position."""
    before = bodies.qpos[:, 0].copy()
    bodies.step(action, options["frame_skip"])
    return (bodies.qpos[:, 0] - before) / seconds_of(bodies, options)


def never(action: np.ndarray) -> np.ndarray:
    """No simulation terminates."""
    return np.zeros(len(action), bool)


def healthy(alive: np.ndarray, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """The reward of those that are healthy, and whether the others terminate."""
    return alive * options["healthy_reward"], ~alive & options["terminate_when_unhealthy"]


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values ``[S, ...]`` of a simulation are all inside of a range, its ends excluded."""
    inside = (values > low) & (values < high)
    return np.all(inside.reshape(len(values), -1), axis=1, keepdims=False)


def seen_positions(bodies: Bodies, num_hidden: int, options: Options) -> np.ndarray:
    """Positions without those that tell how far a robot came."""
    hides = options["exclude_current_positions_from_observation"]
    return bodies.qpos[:, num_hidden if hides else 0 :]

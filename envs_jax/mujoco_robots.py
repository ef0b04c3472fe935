"""MuJoCo's robots as Gymnasium's version 5 has them, each a record.

`Robot` is all that tells one environment from another; its model is made in
`envs_jax.mujoco_models`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from envs_jax.cards.mujoco import OPTIONS, VARY
from envs_jax.mujoco_engine import Bodies

Options = Mapping[str, Any]
"""Options of a task by name, checked."""


class Robot(NamedTuple):
    """An environment at level 0; S is the number of its simulations."""

    model: str
    """Function of `envs_jax.mujoco_models` that makes its model."""
    options: Options
    """Options of the task with their defaults."""
    sizes: Callable[[Options], tuple[int, int]]
    """Options -> numbers of an observation, numbers of an action."""
    max_episode_steps: int
    draw: Callable[[np.random.Generator, Any, float], tuple[np.ndarray, np.ndarray]]
    """(generator, model, scale of the noise) -> positions and velocities of a start, which are
    drawn in Gymnasium's order."""
    observe: Callable[[Bodies, Options], np.ndarray]
    """Observations float64 ``[S, F]``."""
    step: Callable[[Bodies, np.ndarray, Options], tuple[np.ndarray, np.ndarray]]
    """(bodies, actions float32 ``[S, A]``, options) -> rewards float64 and terminations ``[S]``."""


# HalfCheetah


def half_cheetah_start(
    generator: np.random.Generator, model: Any, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Near the pose in which it stands: uniform positions, normal velocities."""
    qpos = model.qpos0 + generator.uniform(-scale, scale, model.nq)
    return qpos, scale * generator.standard_normal(model.nv)


def half_cheetah_observation(bodies: Bodies, options: Options) -> np.ndarray:
    """Positions and velocities; the robot does not see how far it came."""
    first = int(options["exclude_current_positions_from_observation"])
    return np.concatenate([bodies.qpos[:, first:], bodies.qvel], axis=1)


def half_cheetah_step(
    bodies: Bodies, action: np.ndarray, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Reward of the speed along x, less the cost of the action. It never falls for good."""
    before = bodies.qpos[:, 0].copy()
    bodies.step(action, options["frame_skip"])
    seconds = bodies.model.opt.timestep * options["frame_skip"]
    speed = (bodies.qpos[:, 0] - before) / seconds
    # In the 32 bits of the action, as Gymnasium computes it.
    cost = options["ctrl_cost_weight"] * np.square(action).sum(1)
    return options["forward_reward_weight"] * speed - cost, np.zeros(len(action), bool)


def half_cheetah_sizes(options: Options) -> tuple[int, int]:
    """9 joints, the first of which may be hidden, and 6 motors."""
    return 18 - int(options["exclude_current_positions_from_observation"]), 6


ROBOTS = {
    "halfcheetah": Robot(
        "half_cheetah", OPTIONS, half_cheetah_sizes, 1000, half_cheetah_start,
        half_cheetah_observation, half_cheetah_step,
    ),
}  # fmt: skip
RETURNS = {"halfcheetah": (-290.0, 11_321.0)}
"""Returns at level 0 of the uniform random policy, and of published agents: the mean of SAC after a
million steps (10 seeds). The second is the upper reference of the scores at every level, where
nobody knows the best return."""


# Options


def checked(name: str, usual: Options, given: Options) -> dict[str, Any]:
    """The options of a task, each with an allowed value; ValueError says what is allowed."""
    unknown = [key for key in given if key not in usual]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; allowed: {', '.join(usual)}")
    options = {**usual, **given}
    if options["eval_reset_noise_scale"] is None:
        options["eval_reset_noise_scale"] = options["reset_noise_scale"]
    for key, value in options.items():
        allowed = _not_allowed(key, value, usual[key])
        if allowed:
            raise ValueError(f"{name}: {key} = {value!r} is not allowed; use {allowed}")
    return options


def _not_allowed(key: str, value: Any, usual: Any) -> str | None:
    """Values that are allowed, in words, where this one is not."""
    if key == "vary":
        return None if value in VARY else f"one of {', '.join(VARY)}"
    if isinstance(usual, bool):
        return None if isinstance(value, bool) else "True or False"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "frame_skip":
        return None if number and value >= 1 and value == int(value) else "a whole number from 1 on"
    return None if number and 0 <= value < np.inf else "a finite number, 0 or larger"

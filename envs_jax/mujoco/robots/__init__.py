"""The robots, each a record."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs_jax.cards.mujoco import VARY
from envs_jax.mujoco.robots import arms, pendulums, planar, walkers
from envs_jax.mujoco.robots.base import Options, Robot

ROBOTS: dict[str, Robot] = {
    "halfcheetah": planar.HALF_CHEETAH,
    "hopper": planar.HOPPER,
    "walker2d": planar.WALKER2D,
    "swimmer": planar.SWIMMER,
    "ant": walkers.ANT,
    "humanoid": walkers.HUMANOID,
    "humanoid_standup": walkers.HUMANOID_STANDUP,
    "reacher": arms.REACHER,
    "pusher": arms.PUSHER,
    "inverted_pendulum": pendulums.INVERTED_PENDULUM,
    "inverted_double_pendulum": pendulums.INVERTED_DOUBLE_PENDULUM,
}


def checked(name: str, usual: Options, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task, each with an allowed value; ValueError says what is allowed."""
    unknown = [key for key in given if key not in usual]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; allowed: {', '.join(usual)}")
    options = {**usual, **given}
    if "eval_reset_noise_scale" in usual and options["eval_reset_noise_scale"] is None:
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
    if key == "main_body":
        # Whether there is one of this name says the model.
        return None if isinstance(value, str | int) else "the number or the name of a body"
    if isinstance(usual, bool):
        return None if isinstance(value, bool) else "True or False"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "frame_skip":
        return None if number and value >= 1 and value == int(value) else "a whole number from 1 on"
    return None if number and 0 <= value < np.inf else "a finite number, 0 or larger"

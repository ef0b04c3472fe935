"""MountainCarContinuous with varying dynamics: gravity and the power of the motor."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from envs_jax.base import Environment, ParameterTask, check_levels
from envs_jax.pendulum import sin_cos
from jaxgen.types import Array, Box, EnvSpec, Numbers

MIN_POSITION, MAX_POSITION = -1.2, 0.6
MAX_SPEED = 0.07
GOAL = 0.45
BONUS = 100.0
"""Reward of reaching the goal."""
MAX_STEPS = 999
STARTS = (-0.6, -0.4)
"""Positions between which episodes start, at rest."""


class MountainCarParams(NamedTuple):
    """Parameters that vary, float32 ``[*S]`` or any shape that broadcasts with the state."""

    gravity: Array
    power: Array


class MountainCarState(NamedTuple):
    """Position and velocity, float32 ``[*S]``."""

    position: Array
    velocity: Array
    time: Array
    """Steps taken in this episode, int32 ``[*S]``."""


def mountain_car_params(levels: Array) -> MountainCarParams:
    """Map levels in [0, 1], any shape, linearly to dynamics of the same shape.

    Gravity grows from .0025 at level 0 to 1.5 times that at level 1, power falls from .0015 to .7
    times that. Raises ValueError for a concrete level outside of [0, 1].
    """
    levels = check_levels(levels)
    return MountainCarParams(0.0025 * (1 + 0.5 * levels), 0.0015 * (1 - 0.3 * levels))


class MountainCarContinuous(Environment):
    """Drive out of a valley with a motor that is too weak, as Gymnasium's environment.

    - State: position, which starts uniformly in [-.6, -.4], and velocity, which starts at 0.
    - Observation: float32 ``[*S, 2]``: position and velocity.
    - Actions: float32 ``[*S, 1]``, the motor's force; what lies beyond [-1, 1] acts at the edge,
      but costs what it is.
    - Dynamics: velocity changes by force x power - gravity x cos(3 x position) and stays within
      [-.07, .07]; the left wall, at -1.2, stops the car.
    - Reward: -.1 force^2, and 100 at the goal.
    - Terminated: at a position of .45 or more, without moving back. Truncated: after 999 steps.
    """

    spec = EnvSpec(
        name="mountain_car_continuous",
        observation=Numbers(low=(MIN_POSITION, -MAX_SPEED), high=(MAX_POSITION, MAX_SPEED)),
        actions=Box((-1.0,), (1.0,)),
        max_episode_steps=MAX_STEPS,
    )
    reset_words = 1

    @property
    def default_params(self) -> MountainCarParams:
        """Gymnasium's own dynamics."""
        return mountain_car_params(jnp.float32(0))

    def reset_from(
        self, words: Array, params: MountainCarParams
    ) -> tuple[Array, MountainCarState]:
        """Start episodes: words uint32 ``[*S, 1]`` -> obs ``[*S, 2]``, state ``[*S]``."""
        del params  # The start does not depend on the dynamics.
        low, high = STARTS
        share = (words[..., 0] >> 8).astype(jnp.float32) * 2.0**-24
        position = low + (high - low) * share
        zeros = jnp.zeros_like(position)
        state = MountainCarState(position, zeros, zeros.astype(jnp.int32))
        return _observe(state), state

    def advance(
        self, state: MountainCarState, action: Array, params: MountainCarParams
    ) -> tuple[Array, MountainCarState, Array, Array, Array]:
        """Step without auto-reset -> obs, state, reward, terminated, truncated."""
        given = action[..., 0]
        # Three times a position is up to 3.6, where the series is still exact to 1e-7.
        _, cos = sin_cos(3 * state.position)
        change = jnp.clip(given, -1, 1) * params.power - params.gravity * cos
        velocity = jnp.clip(state.velocity + change, -MAX_SPEED, MAX_SPEED)
        position = jnp.clip(state.position + velocity, MIN_POSITION, MAX_POSITION)
        at_wall = (position == MIN_POSITION) & (velocity < 0)
        velocity = jnp.where(at_wall, 0.0, velocity)
        terminated = (position >= GOAL) & (velocity >= 0)
        reward = jnp.where(terminated, BONUS, 0.0) - 0.1 * jnp.square(given)
        state = MountainCarState(position, velocity, state.time + 1)
        return _observe(state), state, reward, terminated, state.time >= MAX_STEPS

    def render(self, state: MountainCarState, params: MountainCarParams) -> np.ndarray:
        """Draw one state, RGB uint8 ``[200, 300, 3]``: the road, the goal and the car."""
        del params
        image = np.full((200, 300, 3), 255, np.uint8)
        row, column = np.mgrid[0:200, 0:300]
        scale = 300 / (MAX_POSITION - MIN_POSITION)
        place = MIN_POSITION + (column + 0.5) / scale
        image[np.abs(row - _row(place)) <= 1] = (0, 0, 0)
        flag = np.abs(place - GOAL) <= 1 / scale
        image[flag & (row < _row(place)) & (row > _row(place) - 30)] = (60, 140, 60)
        car = float(state.position)
        middle = (car - MIN_POSITION) * scale - 0.5, _row(np.array(car)) - 8
        image[np.hypot(column - middle[0], row - middle[1]) <= 7] = (204, 77, 77)
        return image


def _row(position: np.ndarray) -> np.ndarray:
    """Row of the road at a position."""
    return 190 - 120 * (np.sin(3 * position) * 0.45 + 0.55)


def _observe(state: MountainCarState) -> Array:
    return jnp.stack([state.position, state.velocity], axis=-1)


class MountainCarContinuousTask(ParameterTask):
    """MountainCarContinuous at any variation level.

    The upper reference is 100, which no return exceeds. A car that is pushed in proportion to its
    speed reaches 97.6 on average at level 0, with a factor of 10, and 94.1 at level 1, with 15.
    """

    spec = MountainCarContinuous.spec

    def __init__(self) -> None:
        super().__init__(MountainCarContinuous(), mountain_car_params, BONUS)


def describe_level(task: MountainCarContinuousTask, level: float, num_episodes: int) -> str:
    """Physical quantities at a level."""
    del task, num_episodes
    gravity, power = map(float, mountain_car_params(jnp.float32(level)))
    return f"gravity {gravity:.4g}, power {power:.4g}"

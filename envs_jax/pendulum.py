"""Pendulum with varying dynamics: mass and length of the rod; and its best returns."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from envs_jax.base import Environment, ParameterTask, check_levels
from jaxgen.types import Array, Box, EnvSpec, Numbers

GRAVITY = 10.0
TIME_STEP = 0.05
"""Seconds between two states."""
MAX_TORQUE = 2.0
MAX_SPEED = 8.0
"""Radians per second."""
MAX_STEPS = 200
START_SPEED = 1.0
"""Angular velocity starts uniformly within plus and minus this value."""
MAX_CHANGE = TIME_STEP * 3 * (GRAVITY / 2 + MAX_TORQUE)
"""The largest change of angular velocity in a step, at level 0."""


class PendulumParams(NamedTuple):
    """Parameters that vary, float32 ``[*S]`` or any shape that broadcasts with the state."""

    mass: Array
    length: Array


class PendulumState(NamedTuple):
    """Angle and angular velocity, float32 ``[*S]``; `pendulum_state` makes one."""

    theta: Array
    """Angle from upright in radians, within plus and minus pi: Gymnasium's, less whole turns."""
    theta_dot: Array
    sin: Array
    """Of the angle. The next step needs it, and XLA computes what is kept once for all its uses,
    which makes steps 3 times as fast."""
    cos: Array
    time: Array
    """Steps taken in this episode, int32 ``[*S]``."""


def pendulum_params(levels: Array) -> PendulumParams:
    """Map levels in [0, 1], any shape, linearly to dynamics of the same shape.

    Mass and length grow from 1 at level 0 to 1.5 at level 1. Level .5 is the upper end of the
    regular range, level 1 that of the extreme range of Packer et al. (2018), "Assessing
    generalization in deep reinforcement learning". Raises ValueError for a concrete level outside
    of [0, 1].
    """
    factor = 1 + 0.5 * check_levels(levels)
    return PendulumParams(mass=factor, length=factor)


def _wrapped(angle: Array) -> Array:
    """Angles in radians, less whole turns: within plus and minus pi."""
    return angle - 2 * math.pi * jnp.floor(angle / (2 * math.pi) + 0.5)


def sin_cos(angle: Array) -> tuple[Array, Array]:
    """Sine and cosine of angles within plus and minus pi, to 5e-7.

    XLA calls a scalar function for every sine on a CPU. Taylor series of half the angle become
    vector instructions, with which an environment steps 4 times as fast.
    """
    half = angle / 2
    square = jnp.square(half)
    sin, cos = half * _series(square, range(1, 13, 2)), _series(square, range(0, 14, 2))
    return 2 * sin * cos, jnp.square(cos) - jnp.square(sin)


def _series(square: Array, powers: range) -> Array:
    """Sum of (-square)^i / powers[i]!, by Horner's rule."""
    total = jnp.zeros_like(square)
    for power in reversed(powers):
        total = 1 / math.factorial(power) - square * total
    return total


def _cost(theta: Array, theta_dot: Array, torque: Array) -> Array:
    """Cost of a step, from the state before it, whose angle is within plus and minus pi."""
    return jnp.square(theta) + 0.1 * jnp.square(theta_dot) + 0.001 * jnp.square(torque)


def _pushed(theta_dot: Array, sin: Array, torque: Array, params: PendulumParams) -> Array:
    """Angular velocity after a step, from the sine of the angle before it."""
    fall = 3 * GRAVITY / (2 * params.length) * sin
    push = 3 / (params.mass * jnp.square(params.length)) * torque
    return jnp.clip(theta_dot + TIME_STEP * (fall + push), -MAX_SPEED, MAX_SPEED)


def pendulum_state(theta: Array, theta_dot: Array, time: Array) -> PendulumState:
    """The state of an angle within plus and minus pi."""
    return PendulumState(theta, theta_dot, *sin_cos(theta), time)


class Pendulum(Environment):
    """Swing a rod up and hold it upright, as Gymnasium's Pendulum-v1.

    - State: angle from upright, which starts uniformly in [-pi, pi], and angular velocity, which
      starts uniformly in [-1, 1].
    - Observation: float32 ``[*S, 3]``: cosine and sine of the angle, angular velocity.
    - Actions: float32 ``[*S, 1]``, the torque; what lies beyond [-2, 2] acts at the edge.
    - Dynamics: a rod that hangs at one end, semi-implicit Euler, 0.05 s a step; angular velocity
      stays within [-8, 8]; what varies is in `PendulumParams`.
    - Reward: the negative of angle^2 + 0.1 velocity^2 + 0.001 torque^2, in the old state.
    - Terminated: never. Truncated: after 200 steps.
    """

    spec = EnvSpec(
        name="pendulum",
        observation=Numbers(low=(-1.0, -1.0, -MAX_SPEED), high=(1.0, 1.0, MAX_SPEED)),
        actions=Box((-MAX_TORQUE,), (MAX_TORQUE,)),
        max_episode_steps=MAX_STEPS,
    )
    reset_words = 1

    @property
    def default_params(self) -> PendulumParams:
        """Gymnasium's own dynamics."""
        return pendulum_params(jnp.float32(0))

    def reset_from(self, words: Array, params: PendulumParams) -> tuple[Array, PendulumState]:
        """Start episodes: words uint32 ``[*S, 1]`` -> obs ``[*S, 3]``, state ``[*S]``.

        Each half of a word gives one state variable, at the middle of one of 65536 intervals.
        """
        del params  # The start does not depend on the dynamics.
        halves = words[..., 0] >> 16, words[..., 0] & 0xFFFF
        theta, theta_dot = (
            edge * ((half.astype(jnp.float32) + 0.5) * 2.0**-15 - 1)
            for half, edge in zip(halves, (math.pi, START_SPEED), strict=True)
        )
        state = pendulum_state(theta, theta_dot, jnp.zeros_like(theta, jnp.int32))
        return _observe(state), state

    def advance(
        self, state: PendulumState, action: Array, params: PendulumParams
    ) -> tuple[Array, PendulumState, Array, Array, Array]:
        """Step without auto-reset -> obs, state, reward, terminated, truncated."""
        torque = jnp.clip(action[..., 0], -MAX_TORQUE, MAX_TORQUE)
        reward = -_cost(state.theta, state.theta_dot, torque)
        theta_dot = _pushed(state.theta_dot, state.sin, torque, params)
        theta = _wrapped(state.theta + TIME_STEP * theta_dot)
        state = pendulum_state(theta, theta_dot, state.time + 1)
        terminated = jnp.zeros_like(reward, bool)
        return _observe(state), state, reward, terminated, state.time >= MAX_STEPS

    def render(self, state: PendulumState, params: PendulumParams) -> np.ndarray:
        """Draw one state, RGB uint8 ``[200, 200, 3]``; 60 pixels are one metre."""
        image = np.full((200, 200, 3), 255, np.uint8)
        row, column = np.mgrid[0:200, 0:200] - 99.5
        angle, length = float(state.theta), 60 * float(params.length)
        # Gymnasium counts angles against the clock; rows count downwards.
        tip_x, tip_y = -length * math.sin(angle), -length * math.cos(angle)
        # Distance from the rod: project every pixel onto the segment from axle to tip.
        along = np.clip((column * tip_x + row * tip_y) / length**2, 0, 1)
        # A heavier rod is drawn thicker.
        half_width = 5 * float(params.mass)
        image[np.hypot(column - along * tip_x, row - along * tip_y) <= half_width] = (204, 77, 77)
        image[np.hypot(column, row) <= 3] = (0, 0, 0)
        return image


def _observe(state: PendulumState) -> Array:
    return jnp.stack([state.cos, state.sin, state.theta_dot], axis=-1)


class PendulumTask(ParameterTask):
    """Pendulum at any variation level."""

    spec = Pendulum.spec

    def __init__(self) -> None:
        super().__init__(Pendulum(), pendulum_params, 0.0)

    def ceiling(self, params: PendulumParams, words: Array) -> Array:
        """The return that nearly optimal play reaches in every episode, float32 ``[K, E]``.

        It is what `best_play` attained, not what its grid claims: a return that was reached is a
        fact, and an agent that beats it by a little beats a policy, not an estimate.
        """
        levels = zip(params.mass, params.length, np.asarray(words), strict=True)
        return jnp.stack([
            _attained(float(mass), float(length), row.tobytes()) for mass, length, row in levels
        ])  # fmt: skip


def describe_level(task: PendulumTask, level: float, num_episodes: int) -> str:
    """Physical quantities at a level."""
    del task, num_episodes
    mass, length = map(float, pendulum_params(jnp.float32(level)))
    return f"rod {length:.4g} m, {mass:.4g} kg"


class Grid(NamedTuple):
    """Fineness of `best_play`."""

    num_angles: int = 256
    num_speeds: int = 257
    num_solved: int = 3
    """Torques, evenly spaced, that the values of the grid choose from."""
    num_played: int = 9
    """The same of the policy that is played."""


@lru_cache(maxsize=256)
def _attained(mass: float, length: float, words: bytes) -> np.ndarray:
    """Attained returns float32 ``[E]`` of episodes, whose words are a key of the cache."""
    params = PendulumParams(jnp.float32(mass), jnp.float32(length))
    return np.asarray(best_play(params, np.frombuffer(words, np.uint32)[:, None], Grid())[1])


@partial(jax.jit, static_argnums=2)
def best_play(params: PendulumParams, words: Array, grid: Grid) -> tuple[Array, Array]:
    """Nearly optimal play: value iteration on a grid of states, over the steps of an episode.

    Args:
      params: dynamics of one level.
      words: uint32 ``[E, 1]``, from which the episodes start.
      grid: how fine it is.

    Returns:
      The returns float32 ``[E]`` that the grid claims, and those that the policy which is greedy to
      it attains in the environment.

    Means over 1000 starts, claimed and attained, with 3 torques solved and 9 played:

    | angles x velocities | level 0 | level 1 |
    |---|---|---|
    | 64 x 65 | -137.5, -136.8 | -343.7, -289.1 |
    | 128 x 129 | -135.6, -135.1 | -289.1, -287.6 |
    | 256 x 257 | -134.4, -134.1 | -287.0, -286.2 |
    | 512 x 513 | -133.9, -133.7 | -285.7, -285.0 |

    The last takes 8 times as long to be .4 % better. On the third, solving with 5 torques adds .03,
    and playing 3, 5 or 17 instead of 9 changes the attained returns by -.28, -.24 and +.04.
    """
    _, start = Pendulum().reset_from(words, params)
    first, later = _solve(params, grid)
    return _value(first, start), _play(params, start, later, grid)


def _torques(num: int) -> Array:
    return jnp.linspace(-MAX_TORQUE, MAX_TORQUE, num)


def _solve(params: PendulumParams, grid: Grid) -> tuple[Array, Array]:
    """Values of the grid's states before the first step ``[A, W]`` and after each step
    ``[T, A, W]``.

    A step changes the velocity, by as much at every velocity, and then the angle, by as much at
    every angle. So values are interpolated along one axis at a time, and linearly: cubic
    interpolation overshoots at the ridges between two ways to swing up.
    """
    angle = 2 * math.pi / grid.num_angles * jnp.arange(grid.num_angles)[:, None] - math.pi
    speed = jnp.linspace(-MAX_SPEED, MAX_SPEED, grid.num_speeds)[None]
    torque, none = _torques(grid.num_solved)[None], jnp.float32(0)
    before_turn, before_push = _turn(speed, grid), _push(angle, torque, params, grid)
    state_cost, torque_cost = _cost(angle, speed, none), _cost(none, none, torque[..., None])

    def step(values: Array, _: None) -> tuple[Array, Array]:
        return (before_push(before_turn(values)) - torque_cost).max(1) - state_cost, values

    nothing = jnp.zeros((grid.num_angles, grid.num_speeds))
    return jax.lax.scan(step, nothing, length=MAX_STEPS, reverse=True)


def _turn(speed: Array, grid: Grid) -> Callable[[Array], Array]:
    """Values ``[A, W]`` after the angle has changed -> before it, by velocities ``[1, W]``."""
    cells, rest = _cells(TIME_STEP * speed * grid.num_angles / (2 * math.pi))
    low = (jnp.arange(grid.num_angles)[:, None] + cells) % grid.num_angles
    high, column = (low + 1) % grid.num_angles, jnp.arange(grid.num_speeds)[None]
    return lambda values: values[low, column] * (1 - rest) + values[high, column] * rest


def _push(
    angle: Array, torque: Array, params: PendulumParams, grid: Grid
) -> Callable[[Array], Array]:
    """Values ``[A, W]`` after the velocity has changed -> before it, by torque ``[A, U, W]``."""
    change = _pushed(jnp.zeros_like(angle), sin_cos(angle)[0], torque, params)
    density = (grid.num_speeds - 1) / (2 * MAX_SPEED)
    cells, rest = _cells(change[..., None] * density)
    # Velocities are clipped: beyond the edges, values are those of the edges.
    margin = math.ceil(MAX_CHANGE * density) + 1
    # Windows of a row: gathered number by number, they would take 4 times as long.
    window = lambda row, first: jax.lax.dynamic_slice(row, (first,), (grid.num_speeds + 1,))  # noqa: E731
    windows = jax.vmap(jax.vmap(window, (None, 0)))

    def before(values: Array) -> Array:
        padded = jnp.pad(values, ((0, 0), (margin, margin)), mode="edge")
        near = windows(padded, cells[..., 0] + margin)
        return near[..., :-1] * (1 - rest) + near[..., 1:] * rest

    return before


def _cells(distance: Array) -> tuple[Array, Array]:
    """Whole cells of a distance, int32, and the rest, in [0, 1)."""
    whole = jnp.floor(distance)
    return whole.astype(jnp.int32), distance - whole


def _value(values: Array, state: PendulumState) -> Array:
    """Values ``[A, W]`` at states ``[*S]``, bilinearly interpolated."""
    num_angles, num_speeds = values.shape
    row = (state.theta + math.pi) * num_angles / (2 * math.pi)
    column = (state.theta_dot + MAX_SPEED) * (num_speeds - 1) / (2 * MAX_SPEED)
    around = jnp.concatenate([values, values[:1]])
    return map_coordinates(around, [row, column], order=1, mode="nearest")


def _play(params: PendulumParams, start: PendulumState, values: Array, grid: Grid) -> Array:
    """Returns ``[E]`` of the policy that is greedy to values ``[T, A, W]`` after each step."""

    def step(state: PendulumState, after: Array) -> tuple[PendulumState, Array]:
        def tried(torque: Array) -> tuple[PendulumState, Array]:
            action = jnp.full((*state.theta.shape, 1), torque)
            return Pendulum().advance(state, action, params)[1:3]

        options = jax.vmap(tried)(_torques(grid.num_played))
        best = (options[1] + _value(after, options[0])).argmax(0)[None]
        return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, best, 0)[0], options)

    return jax.lax.scan(step, start, values)[1].sum(0)

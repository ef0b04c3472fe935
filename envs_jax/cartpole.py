"""CartPole with varying dynamics: gravity, pole length and cart mass."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from envs_jax.base import Environment, ParameterTask, check_levels
from jaxgen.types import Array, Discrete, EnvSpec, Numbers

MASS_POLE = 0.1
FORCE = 10.0
TIME_STEP = 0.02
"""Seconds between two states."""
MAX_POSITION = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
MAX_STEPS = 500
START_RANGE = 0.05
"""Every state variable starts uniformly within plus and minus this value."""


class CartPoleParams(NamedTuple):
    """Parameters that vary, float32 ``[*S]`` or any shape that broadcasts with the state."""

    gravity: Array
    length: Array
    """Half of the pole's length, as in Gymnasium's source."""
    masscart: Array


class CartPoleState(NamedTuple):
    """Positions and velocities, float32 ``[*S]``.

    Four arrays, because they step 4 times as fast as one ``[*S, 4]``.
    """

    x: Array
    x_dot: Array
    theta: Array
    theta_dot: Array
    time: Array
    """Steps taken in this episode, int32 ``[*S]``."""


def cartpole_params(levels: Array) -> CartPoleParams:
    """Map levels in [0, 1], any shape, linearly to dynamics of the same shape.

    From gravity 9.8, length 0.5, masscart 1.0 at level 0 to 14.7, 1.0, 2.0 at level 1.
    Raises ValueError for a concrete level outside of [0, 1].
    """
    levels = check_levels(levels)
    return CartPoleParams(
        gravity=9.8 + 4.9 * levels, length=0.5 + 0.5 * levels, masscart=1.0 + levels
    )


class CartPole(Environment):
    """Balance a pole on a cart, as Gymnasium's CartPole-v1 (Barto, Sutton and Anderson, 1983).

    - State: position, angle from upright (radians) and their velocities; all of them
      start uniformly in [-0.05, 0.05].
    - Observation: float32 ``[*S, 4]``: x, x_dot, theta, theta_dot.
    - Actions: 0 pushes the cart to the left, 1 to the right, with 10 N.
    - Dynamics: explicit Euler, 0.02 s a step; what varies is in `CartPoleParams`.
    - Reward: 1 on every step, the terminating one included.
    - Terminated: abs(x) > 2.4 or abs(theta) > 12 degrees, in the new state.
    - Truncated: after 500 steps; both flags can be true.
    """

    spec = EnvSpec(
        name="cartpole",
        # Ends of the track and the angle; velocities have no bounds: nominal ones.
        observation=Numbers(low=(-2.4, -3.0, -0.21, -3.5), high=(2.4, 3.0, 0.21, 3.5)),
        actions=Discrete(2),
        max_episode_steps=MAX_STEPS,
    )
    reset_words = 2

    @property
    def default_params(self) -> CartPoleParams:
        """Gymnasium's own dynamics."""
        return cartpole_params(jnp.float32(0))

    def reset_from(self, words: Array, params: CartPoleParams) -> tuple[Array, CartPoleState]:
        """Start episodes: words uint32 ``[*S, 2]`` -> obs ``[*S, 4]``, state ``[*S]``.

        Each half of a word gives one state variable, at the middle of one of 65536 intervals.
        """
        del params  # The start does not depend on the dynamics.
        halves = (half for i in range(2) for half in (words[..., i] >> 16, words[..., i] & 0xFFFF))
        x, x_dot, theta, theta_dot = (
            2 * START_RANGE * ((half.astype(jnp.float32) + 0.5) * 2.0**-16) - START_RANGE
            for half in halves
        )
        state = CartPoleState(x, x_dot, theta, theta_dot, jnp.zeros_like(x, jnp.int32))
        return jnp.stack([x, x_dot, theta, theta_dot], axis=-1), state

    def advance(
        self, state: CartPoleState, action: Array, params: CartPoleParams
    ) -> tuple[Array, CartPoleState, Array, Array, Array]:
        """Step without auto-reset -> obs, state, reward, terminated, truncated."""
        x_acc, theta_acc = _accelerations(state, action, params)
        state = CartPoleState(
            x=state.x + TIME_STEP * state.x_dot,
            x_dot=state.x_dot + TIME_STEP * x_acc,
            theta=state.theta + TIME_STEP * state.theta_dot,
            theta_dot=state.theta_dot + TIME_STEP * theta_acc,
            time=state.time + 1,
        )
        terminated = (jnp.abs(state.x) > MAX_POSITION) | (jnp.abs(state.theta) > MAX_ANGLE)
        truncated = state.time >= MAX_STEPS
        obs = jnp.stack([state.x, state.x_dot, state.theta, state.theta_dot], axis=-1)
        return obs, state, jnp.ones_like(state.x), terminated, truncated

    def render(self, state: CartPoleState, params: CartPoleParams) -> np.ndarray:
        """Draw one state, RGB uint8 ``[200, 300, 3]``; 60 pixels are one metre."""
        image = np.full((200, 300, 3), 255, np.uint8)
        row, column = np.mgrid[0:200, 0:300]
        cart_x, cart_y = 150 + 60 * float(state.x), 150.0
        angle, length = float(state.theta), 60 * 2 * float(params.length)
        tip_x, tip_y = cart_x + length * math.sin(angle), cart_y - length * math.cos(angle)
        image[np.abs(row - 161) <= 0] = (120, 120, 120)
        image[(np.abs(row - cart_y) <= 10) & (np.abs(column - cart_x) <= 16)] = (40, 40, 40)
        # Distance from the pole: project every pixel onto the segment from axle to tip.
        along = (column - cart_x) * (tip_x - cart_x) + (row - cart_y) * (tip_y - cart_y)
        along = np.clip(along / length**2, 0, 1)
        off_x = column - (cart_x + along * (tip_x - cart_x))
        off_y = row - (cart_y + along * (tip_y - cart_y))
        image[np.hypot(off_x, off_y) <= 3] = (202, 152, 101)
        return image


def _accelerations(
    state: CartPoleState, action: Array, params: CartPoleParams
) -> tuple[Array, Array]:
    """Accelerations of cart and pole (Florian, 2007, equations 23 and 24, without friction)."""
    total_mass = params.masscart + MASS_POLE
    polemass_length = MASS_POLE * params.length
    force = jnp.where(action == 1, FORCE, -FORCE).astype(jnp.float32)
    sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
    push = (force + polemass_length * jnp.square(state.theta_dot) * sin) / total_mass
    theta_acc = (params.gravity * sin - cos * push) / (
        params.length * (4.0 / 3.0 - MASS_POLE * jnp.square(cos) / total_mass)
    )
    return push - polemass_length * theta_acc * cos / total_mass, theta_acc


class CartPoleTask(ParameterTask):
    """CartPole at any variation level, where the pole can be balanced for 500 steps at each."""

    spec = CartPole.spec

    def __init__(self) -> None:
        super().__init__(CartPole(), cartpole_params, MAX_STEPS)


def describe_level(task: CartPoleTask, level: float, num_episodes: int) -> str:
    """Physical quantities at a level."""
    del task, num_episodes
    gravity, half, mass = map(float, cartpole_params(jnp.float32(level)))
    return f"gravity {gravity:.4g} m/s2, pole {2 * half:.4g} m, cart {mass:.4g} kg"

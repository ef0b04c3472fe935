"""Pendulums on a cart."""

import numpy as np

from envs_jax.mujoco.engine import Bodies
from envs_jax.mujoco.robots.base import Options, Robot, Step, normal_start, uniform_start

MOST = 10.0
"""Beyond it the double pendulum does not see speeds and the force of the rail's end."""


def everything(bodies: Bodies, options: Options) -> np.ndarray:
    """Positions and velocities."""
    del options
    return np.concatenate([bodies.qpos, bodies.qvel], axis=1)


def balance(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """1 until the pole leans by more than .2."""
    bodies.step(action, options["frame_skip"])
    fell = np.abs(bodies.qpos[:, 1]) > 0.2
    terminated = fell | ~np.isfinite(everything(bodies, options)).all(1)
    return Step((~terminated).astype(float), terminated)


def seen_double(bodies: Bodies, options: Options) -> np.ndarray:
    """Place of the cart, sines, cosines and speeds, and the force that holds the cart."""
    del options
    angles = bodies.qpos[:, 1:]
    return np.concatenate([
        bodies.qpos[:, :1], np.sin(angles), np.cos(angles), np.clip(bodies.qvel, -MOST, MOST),
        np.clip(bodies.outputs["qfrc_constraint"], -MOST, MOST)[:, :1],
    ], axis=1)  # fmt: skip


def balance_double(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Reward of a tip that is high, in the middle and slow."""
    bodies.step(action, options["frame_skip"])
    x, y = bodies.outputs["site_xpos"][:, 0, 0], bodies.outputs["site_xpos"][:, 0, 2]
    v1, v2 = bodies.qvel[:, 1], bodies.qvel[:, 2]
    terminated = y <= 1
    alive = options["healthy_reward"] * ~terminated
    far, fast = 0.01 * x**2 + (y - 2) ** 2, 1e-3 * v1**2 + 5e-3 * v2**2
    return Step(alive - far - fast, terminated)


INVERTED_PENDULUM = Robot(
    "pendulums:inverted_pendulum", lambda options: (4, 1), uniform_start, everything, balance,
    reach=3.0,
)  # fmt: skip
INVERTED_DOUBLE_PENDULUM = Robot(
    "pendulums:inverted_double_pendulum", lambda options: (9, 1), normal_start, seen_double,
    balance_double, outputs=("site_xpos", "qfrc_constraint"),
)  # fmt: skip

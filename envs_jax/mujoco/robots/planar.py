"""Robots that move in a plane: HalfCheetah, Hopper, Walker2d, Swimmer."""

from functools import partial

import numpy as np

from envs_jax.mujoco.engine import Bodies
from envs_jax.mujoco.robots.base import (
    Options,
    Robot,
    Step,
    between,
    control_cost,
    healthy,
    never,
    normal_start,
    seen_positions,
    speed_of_step,
    uniform_start,
)  # fmt: skip

MOST_SPEED = 10.0
"""Beyond it Hopper and Walker2d do not see how fast a joint is."""


def _sizes(options: Options, num_joints: int, num_hidden: int, num_motors: int) -> tuple[int, int]:
    hides = options["exclude_current_positions_from_observation"]
    return 2 * num_joints - num_hidden * hides, num_motors


def _seen(bodies: Bodies, options: Options, num_hidden: int, most: float = np.inf) -> np.ndarray:
    velocity = np.clip(bodies.qvel, -most, most)
    return np.concatenate([seen_positions(bodies, num_hidden, options), velocity], axis=1)


def run(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Reward of the speed along x, less the cost of the action; it never falls for good."""
    speed = speed_of_step(bodies, action, options)
    reward = options["forward_reward_weight"] * speed - control_cost(action, options)
    return Step(reward, never(action))


def hop(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Reward of the speed and of being upright, less the cost of the action."""
    speed = speed_of_step(bodies, action, options)
    state = np.concatenate([bodies.qpos, bodies.qvel], axis=1)[:, 2:]
    alive = between(state, -100, 100)
    alive &= between(bodies.qpos[:, 1], 0.7, np.inf) & between(bodies.qpos[:, 2], -0.2, 0.2)
    return _upright(alive, speed, action, options)


def walk(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Hopper's, with other bounds of height and angle."""
    speed = speed_of_step(bodies, action, options)
    alive = between(bodies.qpos[:, 1], 0.8, 2.0) & between(bodies.qpos[:, 2], -1.0, 1.0)
    return _upright(alive, speed, action, options)


def _upright(alive: np.ndarray, speed: np.ndarray, action: np.ndarray, options: Options) -> Step:
    bonus, terminated = healthy(alive, options)
    reward = options["forward_reward_weight"] * speed + bonus - control_cost(action, options)
    return Step(reward, terminated)


HALF_CHEETAH = Robot(
    "planar:half_cheetah", partial(_sizes, num_joints=9, num_hidden=1, num_motors=6), normal_start,
    partial(_seen, num_hidden=1), run,
)  # fmt: skip
HOPPER = Robot(
    "planar:hopper", partial(_sizes, num_joints=6, num_hidden=1, num_motors=3), uniform_start,
    partial(_seen, num_hidden=1, most=MOST_SPEED), hop,
)  # fmt: skip
WALKER2D = Robot(
    "planar:walker2d", partial(_sizes, num_joints=9, num_hidden=1, num_motors=6), uniform_start,
    partial(_seen, num_hidden=1, most=MOST_SPEED), walk,
)  # fmt: skip
SWIMMER = Robot(
    "planar:swimmer", partial(_sizes, num_joints=5, num_hidden=2, num_motors=2), uniform_start,
    partial(_seen, num_hidden=2), run,
)  # fmt: skip

"""Arms: Reacher and Pusher."""

from typing import Any

import numpy as np

from envs_jax.mujoco.engine import Bodies
from envs_jax.mujoco.robots.base import Options, Robot, Start, Step, never

SPEED = 0.005
"""The most speed of a joint at a start."""


def _distance(difference: np.ndarray) -> np.ndarray:
    """Lengths of vectors ``[S, 3]``, each by the product that Gymnasium takes."""
    return np.array([np.linalg.norm(each) for each in difference])


def _cost(action: np.ndarray, options: Options) -> np.ndarray:
    return np.square(action).sum(1) * options["reward_control_weight"]


def _place(bodies: Bodies, name: str) -> np.ndarray:
    return bodies.outputs["xpos"][:, bodies.model.body(name).id]


# Reacher


def reacher_start(generator: np.random.Generator, model: Any, scale: float) -> Start:
    """An arm that is nearly straight, and a target in a circle of .2."""
    del scale
    qpos = generator.uniform(-0.1, 0.1, model.nq) + model.qpos0
    while True:
        goal = generator.uniform(-0.2, 0.2, 2)
        if np.linalg.norm(goal) < 0.2:
            break
    qpos[-2:] = goal
    qvel = generator.uniform(-SPEED, SPEED, model.nv)
    qvel[-2:] = 0
    return qpos, qvel


def reacher_seen(bodies: Bodies, options: Options) -> np.ndarray:
    """Cosines and sines of the joints, the target, speeds, and how far the tip is from it."""
    del options
    angles, target = bodies.qpos[:, :2], bodies.qpos[:, 2:]
    far = _place(bodies, "fingertip") - _place(bodies, "target")
    parts = np.cos(angles), np.sin(angles), target, bodies.qvel[:, :2], far[:, :2]
    return np.concatenate(parts, axis=1)


def reach(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Minus the distance of the tip from the target and the cost of the action."""
    bodies.step(action, options["frame_skip"])
    far = _distance(_place(bodies, "fingertip") - _place(bodies, "target"))
    reward = -far * options["reward_dist_weight"] - _cost(action, options)
    return Step(reward, never(action))


# Pusher


def pusher_start(generator: np.random.Generator, model: Any, scale: float) -> Start:
    """An arm at rest, and a cylinder away from the goal."""
    del scale
    qpos = model.qpos0.copy()
    while True:
        across, along = generator.uniform(-0.3, 0, 1), generator.uniform(-0.2, 0.2, 1)
        puck = np.concatenate([across, along])
        if np.linalg.norm(puck) > 0.17:
            break
    qpos[-4:-2], qpos[-2:] = puck, 0
    qvel = generator.uniform(-SPEED, SPEED, model.nv)
    qvel[-4:] = 0
    return qpos, qvel


def pusher_seen(bodies: Bodies, options: Options) -> np.ndarray:
    """Joints and their speeds, and where the hand, the cylinder and the goal are."""
    del options
    places = [_place(bodies, name) for name in ("tips_arm", "object", "goal")]
    return np.concatenate([bodies.qpos[:, :7], bodies.qvel[:, :7], *places], axis=1)


def push(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Minus the cylinder's distance from the hand and from the goal, and the cost of the action."""
    bodies.step(action, options["frame_skip"])
    puck = _place(bodies, "object")
    near = _distance(puck - _place(bodies, "tips_arm")) * options["reward_near_weight"]
    far = _distance(puck - _place(bodies, "goal")) * options["reward_dist_weight"]
    return Step(-far - _cost(action, options) - near, never(action))


REACHER = Robot(
    "arms:reacher", lambda options: (10, 2), reacher_start, reacher_seen, reach,
    max_episode_steps=50, outputs=("xpos",),
)  # fmt: skip
PUSHER = Robot(
    "arms:pusher", lambda options: (23, 7), pusher_start, pusher_seen, push, max_episode_steps=100,
    reach=2.0, outputs=("xpos",),
)  # fmt: skip

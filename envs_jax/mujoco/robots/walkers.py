"""Robots that walk in space: Ant, Humanoid and HumanoidStandup."""

import numpy as np

from envs_jax.mujoco.engine import Bodies
from envs_jax.mujoco.robots.base import (
    Options,
    Robot,
    Step,
    control_cost,
    healthy,
    never,
    normal_start,
    seconds_of,
    seen_positions,
    uniform_start,
)  # fmt: skip

HIDDEN = 2
"""Positions that tell how far a robot came."""
MOST_COST = 10.0
"""The most that the forces of contacts cost."""


def _squares(values: np.ndarray) -> np.ndarray:
    """Sums of squares of a simulation's numbers ``[S, ...]``."""
    return np.square(values).reshape(len(values), -1).sum(1)


# Ant


def ant_sizes(options: Options) -> tuple[int, int]:
    """15 positions and 14 speeds, forces on 13 bodies; 8 motors."""
    forces = 13 * 6 * options["include_cfrc_ext_in_observation"]
    return 29 - HIDDEN * options["exclude_current_positions_from_observation"] + forces, 8


def _ant_forces(bodies: Bodies) -> np.ndarray:
    return np.clip(bodies.outputs["cfrc_ext"], -1, 1)


def ant_seen(bodies: Bodies, options: Options) -> np.ndarray:
    """Positions, speeds, and the forces of contacts, clipped to 1."""
    parts = [seen_positions(bodies, HIDDEN, options), bodies.qvel]
    if options["include_cfrc_ext_in_observation"]:
        parts.append(_ant_forces(bodies)[:, 1:].reshape(len(bodies.qpos), -1))
    return np.concatenate(parts, axis=1)


def ant_step(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Reward of a body's speed and of the height, less the costs of action and contacts."""
    body = options["main_body"]
    before = bodies.outputs["xpos"][:, body, 0].copy()
    bodies.step(action, options["frame_skip"])
    speed = (bodies.outputs["xpos"][:, body, 0] - before) / seconds_of(bodies, options)
    state, height = np.concatenate([bodies.qpos, bodies.qvel], axis=1), bodies.qpos[:, 2]
    alive = np.isfinite(state).all(1) & (height >= 0.2) & (height <= 1.0)
    bonus, terminated = healthy(alive, options)
    contacts = options["contact_cost_weight"] * _squares(_ant_forces(bodies))
    costs = control_cost(action, options) + contacts
    return Step(speed * options["forward_reward_weight"] + bonus - costs, terminated)


# Humanoid

PARTS = {
    "include_cinert_in_observation": ("cinert", 1, 13 * 10),
    "include_cvel_in_observation": ("cvel", 1, 13 * 6),
    "include_qfrc_actuator_in_observation": ("qfrc_actuator", 6, 17),
    "include_cfrc_ext_in_observation": ("cfrc_ext", 1, 13 * 6),
}
"""Of an option: the field that is seen, from which row on, and how many numbers these are."""


def humanoid_sizes(options: Options) -> tuple[int, int]:
    """24 positions and 23 speeds, and the `PARTS`; 17 motors."""
    seen = sum(num * options[name] for name, (_, _, num) in PARTS.items())
    return 47 - HIDDEN * options["exclude_current_positions_from_observation"] + seen, 17


def humanoid_seen(bodies: Bodies, options: Options) -> np.ndarray:
    """Positions, speeds, inertia and speed of the bodies, forces of motors and of contacts."""
    parts = [seen_positions(bodies, HIDDEN, options), bodies.qvel]
    for name, (field, first, _) in PARTS.items():
        if options[name]:
            parts.append(bodies.outputs[field][:, first:].reshape(len(bodies.qpos), -1))
    return np.concatenate(parts, axis=1)


def _mass_centres(bodies: Bodies) -> np.ndarray:
    """Along x, float64 ``[S]``; each by the product that Gymnasium takes."""
    pairs = zip(bodies.masses, bodies.outputs["xipos"])
    return np.array([np.einsum("b,bj->j", mass, place)[0] / mass.sum() for mass, place in pairs])


def humanoid_step(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Reward of the speed and of standing, less the costs of motors and contacts."""
    before = _mass_centres(bodies)
    bodies.step(action, options["frame_skip"])
    speed = (_mass_centres(bodies) - before) / seconds_of(bodies, options)
    height = bodies.qpos[:, 2]
    bonus, terminated = healthy((height > 1.0) & (height < 2.0), options)
    costs = options["ctrl_cost_weight"] * _squares(bodies.controls)
    costs = costs + _impact(bodies, options["contact_cost_weight"])
    return Step(options["forward_reward_weight"] * speed + bonus - costs, terminated)


def standup_step(bodies: Bodies, action: np.ndarray, options: Options) -> Step:
    """Reward of the height of the torso, less the costs of motors and contacts.

    Gymnasium takes a ``uph_cost_weight`` that changes nothing; here it is no option.
    """
    bodies.step(action, options["frame_skip"])
    height = bodies.qpos[:, 2] / bodies.model.opt.timestep
    motors = options["ctrl_cost_weight"] * _squares(bodies.controls)
    impact = _impact(bodies, options["impact_cost_weight"])
    return Step(height - motors - impact + 1, never(action))


def _impact(bodies: Bodies, weight: float) -> np.ndarray:
    return np.minimum(weight * _squares(bodies.outputs["cfrc_ext"]), MOST_COST)


_SEEN = tuple(field for field, _, _ in PARTS.values())
ANT = Robot(
    "walkers:ant", ant_sizes, normal_start, ant_seen, ant_step, outputs=("xpos", "cfrc_ext"),
    feels_contacts=True,
)  # fmt: skip
HUMANOID = Robot(
    "walkers:humanoid", humanoid_sizes, uniform_start, humanoid_seen, humanoid_step, reach=0.4,
    outputs=("xipos", *_SEEN), feels_contacts=True,
)  # fmt: skip
HUMANOID_STANDUP = Robot(
    "walkers:humanoid_standup", humanoid_sizes, uniform_start, humanoid_seen, standup_step,
    reach=0.4, outputs=_SEEN, feels_contacts=True,
)  # fmt: skip

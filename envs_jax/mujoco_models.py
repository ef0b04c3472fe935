"""Models of MuJoCo's classic robots, built in code.

Each compiles to the bits of the model that Gymnasium loads, but for what physics does not read:
names, colours, lights and textures. Lengths are in metres, masses in kilograms, angles in radians.
"""

from importlib import import_module
from typing import Any, NamedTuple

mujoco: Any = import_module("mujoco")
"""Its names come from compiled modules, which no type checker reads."""
HINGE, SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE
CAPSULE, PLANE = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_PLANE
Pair = tuple[float, float]
"""A position (x, z) in the plane of motion, or a range."""
ABOUT_Y = (0, 1, 0)


class Segment(NamedTuple):
    """A part of a leg: a body with a capsule, a sprung hinge and a motor."""

    name: str
    joint: Pair
    """Where it hangs at its parent."""
    centre: Pair
    """Centre of the capsule, from the joint."""
    capsule: Pair
    """Angle about y, and half of the length."""
    spring: Pair
    """Stiffness and damping of the hinge."""
    limits: Pair
    """Range of the hinge."""
    gear: float
    """Torque of the motor at action 1."""


BACK_LEG = (
    Segment("bthigh", (-0.5, 0), (0.1, -0.13), (-3.8, 0.145), (240, 6), (-0.52, 1.05), 120),
    Segment("bshin", (0.16, -0.25), (-0.14, -0.07), (-2.03, 0.15), (180, 4.5), (-0.785, 0.785), 90),
    Segment("bfoot", (-0.28, -0.14), (0.03, -0.097), (-0.27, 0.094), (120, 3), (-0.4, 0.785), 60),
)
FRONT_LEG = (
    Segment("fthigh", (0.5, 0), (-0.07, -0.12), (0.52, 0.133), (180, 4.5), (-1, 0.7), 120),
    Segment("fshin", (-0.14, -0.24), (0.065, -0.09), (-0.6, 0.106), (120, 3), (-1.2, 0.87), 60),
    Segment("ffoot", (0.13, -0.18), (0.045, -0.07), (-0.6, 0.07), (60, 1.5), (-0.5, 0.5), 30),
)


def half_cheetah() -> Any:
    """The planar robot of two legs of Wawrzynski (2009), of 14 kg, as Gymnasium has it."""
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.01
    spec.compiler.degree = False
    spec.default.joint.solimp_limit[:3] = (0, 0.8, 0.03)
    geom = spec.default.geom
    geom.conaffinity, geom.friction, geom.solimp[:3] = 0, (0.4, 0.1, 0.1), (0, 0.8, 0.01)
    # Only the floor asks for contacts: the robot's parts pass through each other.
    spec.worldbody.add_geom(name="floor", type=PLANE, size=(40, 40, 40), conaffinity=1)
    torso = spec.worldbody.add_body(name="torso", pos=(0, 0, 0.7))
    _move_in_a_plane(torso)
    torso.add_geom(name="torso", type=CAPSULE, size=(0.046, 0, 0), fromto=(-0.5, 0, 0, 0.5, 0, 0))
    _add_capsule(torso, "head", (0.6, 0.1), (0.87, 0.15))
    for leg in (BACK_LEG, FRONT_LEG):
        parent = torso
        for segment in leg:
            parent = _add_segment(spec, parent, segment)
    return _of_mass(spec.compile(), 14)


def _move_in_a_plane(body: Any) -> None:
    """Let a body slide along x and z and turn about y."""
    body.add_joint(name="rootx", type=SLIDE, axis=(1, 0, 0))
    body.add_joint(name="rootz", type=SLIDE, axis=(0, 0, 1))
    body.add_joint(name="rooty", type=HINGE, axis=ABOUT_Y)


def _add_segment(spec: Any, parent: Any, segment: Segment) -> Any:
    """The new body at its parent."""
    name, (stiffness, damping) = segment.name, segment.spring
    body = parent.add_body(name=name, pos=_in_space(segment.joint))
    body.add_joint(
        name=name, type=HINGE, axis=ABOUT_Y, limited=True, range=segment.limits,
        stiffness=stiffness, damping=damping, armature=0.1,
    )  # fmt: skip
    _add_capsule(body, name, segment.centre, segment.capsule)
    spec.add_actuator(
        name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrllimited=True,
        ctrlrange=(-1, 1), gear=(segment.gear, 0, 0, 0, 0, 0),
    )  # fmt: skip
    return body


def _add_capsule(body: Any, name: str, centre: Pair, capsule: Pair) -> None:
    angle, half_length = capsule
    geom = body.add_geom(
        name=name, type=CAPSULE, size=(0.046, half_length, 0), pos=_in_space(centre)
    )
    geom.alt.type = mujoco.mjtOrientation.mjORIENTATION_AXISANGLE
    geom.alt.axisangle = (*ABOUT_Y, angle)


def _in_space(point: Pair) -> tuple[float, float, float]:
    return point[0], 0, point[1]


def _of_mass(model: Any, total: float) -> Any:
    """Scale all masses and inertias to a total mass, with all that follows from them."""
    mujoco.mj_setTotalmass(model, total)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    # The solver's scale, which the compiler alone computes. Python's sum has the order of C's.
    model.stat.meaninertia = sum(model.dof_M0) / model.nv
    model.stat.meanmass = sum(model.body_mass) / (model.nbody - 1)
    return model

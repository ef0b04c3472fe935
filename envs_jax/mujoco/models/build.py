"""Records of a robot's parts, and the model that is made of them."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

mujoco: Any = import_module("mujoco")
"""Its names come from compiled modules, which no type checker reads."""
RK4 = mujoco.mjtIntegrator.mjINT_RK4
Pair = tuple[float, float]
Vector = tuple[float, float, float]
Fields = Mapping[str, Any]
"""Fields of a part of a model; of an array the first numbers."""
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
ORIGIN = (0, 0, 0)
FREELY: Fields = {"armature": 0, "damping": 0, "limited": False}
"""Of a joint that nothing holds."""


class Part(NamedTuple):
    """A body that hangs at another one, or in the world."""

    name: str
    pos: Vector
    joints: Sequence[Fields] = ()
    geoms: Sequence[Fields] = ()
    parts: Sequence["Part"] = ()
    fields: Fields = {}
    sites: Sequence[Fields] = ()


class Motor(NamedTuple):
    """A motor that turns or moves a joint."""

    joint: str
    gear: float
    """Torque or force of control 1."""
    limits: Pair = (-1, 1)


def hinge(name: str, axis: Vector, limits: Pair | None = None, **fields: Any) -> Fields:
    """A joint that turns."""
    return _joint("HINGE", name, axis, limits, fields)


def slide(name: str, axis: Vector, limits: Pair | None = None, **fields: Any) -> Fields:
    """A joint that slides."""
    return _joint("SLIDE", name, axis, limits, fields)


def free(name: str, **fields: Any) -> Fields:
    """A joint that lets a body go anywhere."""
    return {"type": mujoco.mjtJoint.mjJNT_FREE, "name": name, **FREELY, **fields}


def _joint(kind: str, name: str, axis: Vector, limits: Pair | None, fields: Fields) -> Fields:
    bounds: Fields = {} if limits is None else {"range": limits}
    joint_type = getattr(mujoco.mjtJoint, f"mjJNT_{kind}")
    return {"type": joint_type, "name": name, "axis": axis, **bounds, **fields}


def in_a_plane(height: float | None = None) -> tuple[Fields, ...]:
    """Joints that let a body slide along x and z and turn about y.

    The height z of a body may be the number of its joint.
    """
    if height is None:
        return slide("rootx", X), slide("rootz", Z), hinge("rooty", Y)
    down, still = (0, 0, -height), {**FREELY, "stiffness": 0}
    return (
        slide("rootx", X, pos=down, **still), slide("rootz", Z, pos=down, ref=height, **still),
        hinge("rooty", Y, **still),
    )  # fmt: skip


def between(first: Vector, second: Vector, radius: float, **fields: Any) -> Fields:
    """A capsule around a line."""
    return {**capsule(radius, **fields), "fromto": (*first, *second)}


def capsule(radius: float, half_length: float = 0, **fields: Any) -> Fields:
    """A capsule along z."""
    return _geom("CAPSULE", (radius, half_length), fields)


def sphere(radius: float, **fields: Any) -> Fields:
    """A sphere."""
    return _geom("SPHERE", (radius,), fields)


def cylinder(radius: float, half_length: float = 0, **fields: Any) -> Fields:
    """A cylinder along z."""
    return _geom("CYLINDER", (radius, half_length), fields)


def plane(*size: float, **fields: Any) -> Fields:
    """The ground."""
    return _geom("PLANE", size, fields)


def _geom(kind: str, size: tuple[float, ...], fields: Fields) -> Fields:
    return {"type": getattr(mujoco.mjtGeom, f"mjGEOM_{kind}"), "size": size, **fields}


def build(
    parts: Sequence[Part],
    motors: Sequence[Motor],
    *,
    world: Sequence[Fields] = (),
    joint: Fields = {},  # noqa: B006 (read only)
    geom: Fields = {},  # noqa: B006 (read only)
    option: Fields = {},  # noqa: B006 (read only)
    degree: bool = True,
    tendons: Mapping[str, Mapping[str, float]] = {},
) -> Any:
    """Compile a model.

    Args:
      parts: bodies in the world.
      motors: one for each number of an action, in this order.
      world: geoms that do not move.
      joint: what joints have where they do not say otherwise.
      geom: the same of geoms.
      option: of the simulation: time step in seconds, integrator.
      degree: angles are in degrees.
      tendons: names of tendons -> coefficients of the joints that one couples.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = degree
    _set(spec.option, option)
    _set(spec.default.joint, joint)
    _set(spec.default.geom, geom)
    for fields in world:
        _set(spec.worldbody.add_geom(), fields)
    for part in parts:
        _add(spec.worldbody, part)
    for name, joints in tendons.items():
        tendon = spec.add_tendon(name=name)
        for target, coefficient in joints.items():
            tendon.wrap_joint(target, coefficient)
    for motor in motors:
        spec.add_actuator(
            name=motor.joint, target=motor.joint, trntype=mujoco.mjtTrn.mjTRN_JOINT,
            ctrllimited=True, ctrlrange=motor.limits, gear=(motor.gear, 0, 0, 0, 0, 0),
        )  # fmt: skip
    return spec.compile()


def _add(parent: Any, part: Part) -> None:
    body = parent.add_body(name=part.name, pos=part.pos)
    _set(body, part.fields)
    for fields in part.joints:
        _set(body.add_joint(), fields)
    for fields in part.geoms:
        _set(body.add_geom(), fields)
    for fields in part.sites:
        _set(body.add_site(), fields)
    for child in part.parts:
        _add(body, child)


def _set(target: Any, fields: Fields) -> None:
    for name, value in fields.items():
        if name == "axisangle":
            target.alt.type = mujoco.mjtOrientation.mjORIENTATION_AXISANGLE
            target.alt.axisangle = value
        elif isinstance(array := getattr(target, name), np.ndarray):
            numbers = np.atleast_1d(value)
            array[: len(numbers)] = numbers
        else:
            setattr(target, name, value)

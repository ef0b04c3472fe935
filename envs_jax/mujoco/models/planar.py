"""Robots that move in a plane: HalfCheetah, Hopper, Walker2d, Swimmer."""

from typing import Any, NamedTuple

from envs_jax.mujoco.models.build import (
    RK4,
    Fields,
    Motor,
    Pair,
    Part,
    X,
    Y,
    Z,
    between,
    build,
    capsule,
    hinge,
    in_a_plane,
    mujoco,
    plane,
    slide,
)  # fmt: skip


class Segment(NamedTuple):
    """A part of the HalfCheetah's leg: a body with a capsule, a sprung hinge and a motor."""

    name: str
    joint: Pair
    """Where it hangs at its parent, (x, z)."""
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
    """The planar robot of two legs of Wawrzynski (2009), of 14 kg; in radians."""
    torso = Part(
        "torso", (0, 0, 0.7), in_a_plane(),
        [between((-0.5, 0, 0), (0.5, 0, 0), 0.046, name="torso"),
         _turned("head", (0.6, 0.1), (0.87, 0.15))],
        [_leg(BACK_LEG), _leg(FRONT_LEG)],
    )  # fmt: skip
    model = build(
        [torso], [Motor(each.name, each.gear) for each in (*BACK_LEG, *FRONT_LEG)],
        # Only the floor asks for contacts: the robot's parts pass through each other.
        world=[plane(40, 40, 40, name="floor", conaffinity=1)],
        joint={"solimp_limit": (0, 0.8, 0.03)},
        geom={"conaffinity": 0, "friction": (0.4, 0.1, 0.1), "solimp": (0, 0.8, 0.01)},
        option={"timestep": 0.01},
        degree=False,
    )  # fmt: skip
    return _of_mass(model, 14)


def _leg(segments: tuple[Segment, ...]) -> Part:
    first, *others = segments
    stiffness, damping = first.spring
    joint = hinge(
        first.name, Y, first.limits, limited=True, stiffness=stiffness, damping=damping,
        armature=0.1,
    )  # fmt: skip
    return Part(
        first.name, _in_space(first.joint), [joint],
        [_turned(first.name, first.centre, first.capsule)],
        [_leg(tuple(others))] if others else [],
    )  # fmt: skip


def _turned(name: str, centre: Pair, turned: Pair) -> Fields:
    angle, half_length = turned
    place = {"pos": _in_space(centre), "axisangle": (*Y, angle)}
    return capsule(0.046, half_length, name=name, **place)


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


LAID = (0.70710678118654757, 0, -0.70710678118654746, 0)
"""A quarter of a turn about y, which lays a foot on the ground."""
BACK = (0, -1, 0)


def hopper() -> Any:
    """One leg of three hinges (Erez et al. 2011)."""
    torso = _on_legs(walking_leg("", 0.13, 0.195, 2.0))
    return build(
        [torso], [Motor(f"{name}_joint", 200) for name in ("thigh", "leg", "foot")],
        world=[plane(20, 20, 0.125, name="floor", conaffinity=1, condim=3)],
        joint={"armature": 1, "damping": 1, "limited": True},
        geom={"conaffinity": 1, "condim": 1, "contype": 1, "margin": 0.001,
              "solimp": (0.8, 0.8, 0.01), "solref": (0.02, 1)},
        option={"timestep": 0.002, "integrator": RK4},
    )  # fmt: skip


def _on_legs(*legs: Part) -> Part:
    body = capsule(0.05, 0.19999999999999996, name="torso_geom", friction=(0.9,))
    return Part("torso", (0, 0, 1.25), in_a_plane(1.25), [body], legs)


def walking_leg(side: str, reach: float, half_foot: float, friction: float) -> Part:
    """Thigh, leg and foot.

    Args:
      side: behind the names.
      reach: of the foot from the ankle, along x.
      half_foot: half of its length.
      friction: of the foot.
    """
    thigh = capsule(
        0.05, 0.22500000000000003, name=f"thigh{side}_geom", pos=(0, 0, -0.22500000000000009),
        friction=(0.9,),
    )  # fmt: skip
    foot = capsule(
        0.06, half_foot, name=f"foot{side}_geom", pos=(-reach / 2, 0, 0.1), quat=LAID,
        friction=(friction,),
    )  # fmt: skip
    return Part(
        f"thigh{side}", (0, 0, -0.19999999999999996),
        [hinge(f"thigh{side}_joint", BACK, (-150, 0))], [thigh],
        [Part(
            f"leg{side}", (0, 0, -0.70000000000000007),
            [hinge(f"leg{side}_joint", BACK, (-150, 0), pos=(0, 0, 0.25))],
            [capsule(0.04, 0.25, name=f"leg{side}_geom", friction=(0.9,))],
            [Part(
                f"foot{side}", (reach, 0, -0.35),
                [hinge(f"foot{side}_joint", BACK, (-45, 45), pos=(-reach, 0, 0.1))], [foot],
            )],
        )],
    )  # fmt: skip


def walker2d() -> Any:
    """Two legs of three hinges each (Erez et al. 2011)."""
    sides = "", "_left"
    torso = _on_legs(*(walking_leg(side, 0.2, 0.1, 1.9) for side in sides))
    joints = [f"{name}{side}_joint" for side in sides for name in ("thigh", "leg", "foot")]
    return build(
        [torso], [Motor(joint, 100) for joint in joints],
        world=[plane(40, 40, 40, name="floor", conaffinity=1, condim=3)],
        joint={"armature": 0.01, "damping": 0.1, "limited": True},
        geom={"conaffinity": 0, "condim": 3, "contype": 1, "density": 1000,
              "friction": (0.7, 0.1, 0.1)},
        option={"timestep": 0.002, "integrator": RK4},
    )  # fmt: skip


def swimmer() -> Any:
    """Three links in a viscous fluid (Coulom 2002)."""
    link = between((0, 0, 0), (-1, 0, 0), 0.1, density=1000)
    back = Part("back", (-1, 0, 0), [_bend("motor2_rot")], [link])
    middle = Part("mid", (0.5, 0, 0), [_bend("motor1_rot")], [link], [back])
    torso = Part(
        "torso", (0, 0, 0), [slide("slider1", X), slide("slider2", Y), hinge("free_body_rot", Z)],
        [between((1.5, 0, 0), (0.5, 0, 0), 0.1, density=1000)], [middle],
    )  # fmt: skip
    return build(
        [torso], [Motor("motor1_rot", 150), Motor("motor2_rot", 150)],
        world=[plane(40, 40, 0.1, name="floor", pos=(0, 0, -0.1), condim=3)],
        joint={"armature": 0.1},
        geom={"conaffinity": 0, "condim": 1, "contype": 0},
        option={"timestep": 0.01, "integrator": RK4, "density": 4000, "viscosity": 0.1},
    )  # fmt: skip


def _bend(name: str) -> Fields:
    return hinge(name, Z, (-100, 100), limited=True)

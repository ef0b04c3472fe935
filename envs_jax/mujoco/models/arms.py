"""Arms: Reacher and Pusher; in radians."""

from typing import Any

from envs_jax.mujoco.models.build import (
    FREELY,
    ORIGIN,
    RK4,
    Fields,
    Motor,
    Pair,
    Part,
    Vector,
    X,
    Y,
    Z,
    between,
    build,
    cylinder,
    hinge,
    plane,
    slide,
    sphere,
)  # fmt: skip

# Reacher

WALLS = {
    "sideS": ((-0.3, -0.3, 0.01), (0.3, -0.3, 0.01)),
    "sideE": ((0.3, -0.3, 0.01), (0.3, 0.3, 0.01)),
    "sideN": ((-0.3, 0.3, 0.01), (0.3, 0.3, 0.01)),
    "sideW": ((-0.3, -0.3, 0.01), (-0.3, 0.3, 0.01)),
}
SEEN_ALONE: Fields = {"contype": 0, "conaffinity": 0}
"""Of a geom that touches nothing."""


def reacher() -> Any:
    """An arm of two links on a table, and a target."""
    link = ORIGIN, (0.1, 0, 0), 0.01
    tip = Part("fingertip", (0.11, 0, 0), geoms=[sphere(0.01, name="fingertip", contype=0)])
    outer = Part(
        "body1", (0.1, 0, 0), [hinge("joint1", Z, (-3, 3), limited=True)],
        [between(*link, name="link1")], [tip],
    )  # fmt: skip
    inner = Part(
        "body0", (0, 0, 0.01), [hinge("joint0", Z, limited=False)],
        [between(*link, name="link0")], [outer],
    )  # fmt: skip
    held: Fields = {**FREELY, "limited": True, "stiffness": 0}
    target = Part(
        "target", (0.1, -0.1, 0.01),
        [slide("target_x", X, (-0.27, 0.27), ref=0.1, **held),
         slide("target_y", Y, (-0.27, 0.27), ref=-0.1, **held)],
        [sphere(0.009, name="target", **SEEN_ALONE)],
    )  # fmt: skip
    walls = [between(*ends, 0.02, name=name, conaffinity=0) for name, ends in WALLS.items()]
    root = {**cylinder(0.011, name="root", **SEEN_ALONE), "fromto": (0, 0, 0, 0, 0, 0.02)}
    return build(
        [inner, target], [Motor("joint0", 200), Motor("joint1", 200)],
        world=[plane(1, 1, 10, name="ground", **SEEN_ALONE), *walls, root],
        joint={"armature": 1, "damping": 1, "limited": True},
        geom={"contype": 0, "friction": (1, 0.1, 0.1)},
        option={"timestep": 0.01, "integrator": RK4},
        degree=False,
    )  # fmt: skip


# Pusher

FIRM: Fields = {"contype": 1, "conaffinity": 1}
"""Of a geom that touches others."""


def pusher() -> Any:
    """An arm of seven hinges, a cylinder to push, and a goal."""
    joints = (
        "shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow_flex", "forearm_roll",
        "wrist_flex", "wrist_roll",
    )  # fmt: skip
    puck = {**cylinder(0.05, density=0.01, contype=1, conaffinity=0), "size": (0.05, 0.05, 0.05)}
    mark = {**cylinder(0.08, density=0.00001, **SEEN_ALONE), "size": (0.08, 0.001, 0.1)}
    return build(
        [_arm(), Part("object", (0.45, -0.05, -0.275), _on_the_table("obj"), [puck]),
         Part("goal", (0.45, -0.05, -0.323), _on_the_table("goal"), [mark])],
        [Motor(f"r_{name}_joint", 1, (-2, 2)) for name in joints],
        world=[plane(1, 1, 0.1, name="table", pos=(0, 0.5, -0.325), **FIRM)],
        joint={"armature": 0.04, "damping": 1, "limited": True},
        geom={"friction": (0.8, 0.1, 0.1), "density": 300, "margin": 0.002, "condim": 1,
              **SEEN_ALONE},
        option={"timestep": 0.01, "gravity": (0, 0, 0), "iterations": 20},
        degree=False,
    )  # fmt: skip


def _on_the_table(name: str) -> list[Fields]:
    return [
        slide(f"{name}_slide{letter}", axis, (-10.3213, 10.3), damping=0.5)
        for letter, axis in (("y", Y), ("x", X))
    ]


def _arm() -> Part:
    eyes = [sphere(0.05, name="e1", pos=(-0.06, 0.05, 0.2)),
            sphere(0.05, name="e2", pos=(0.06, 0.05, 0.2)),
            sphere(0.03, name="e1p", pos=(-0.06, 0.09, 0.2)),
            sphere(0.03, name="e2p", pos=(0.06, 0.09, 0.2))]  # fmt: skip
    tips = Part("tips_arm", ORIGIN, geoms=[
        sphere(0.01, name="tip_arml", pos=(0.1, -0.1, 0)),
        sphere(0.01, name="tip_armr", pos=(0.1, 0.1, 0)),
    ])  # fmt: skip
    hand = Part(
        "r_wrist_roll_link", ORIGIN, [_turn("r_wrist_roll_joint", X, (-1.5, 1.5), 0.1)],
        [between((0, -0.1, 0), (0, 0.1, 0), 0.02, **FIRM),
         between((0, -0.1, 0), (0.1, -0.1, 0), 0.02, **FIRM),
         between((0, 0.1, 0), (0.1, 0.1, 0), 0.02, **FIRM)],
        [tips],
    )  # fmt: skip
    wrist = _link("r_wrist_flex_link", (0.321, 0, 0), "wf", _across(0.02), 0.01,
                  [_turn("r_wrist_flex_joint", Y, (-1.094, 0), 0.1)], hand)  # fmt: skip
    forearm = _link("r_forearm_link", ORIGIN, "fa", (ORIGIN, (0.291, 0, 0)), 0.05, [], wrist)
    forearm_roll = _link("r_forearm_roll_link", ORIGIN, "fr", _along(0.1), 0.02,
                         [_turn("r_forearm_roll_joint", X, (-1.5, 1.5), 0.1)], forearm)  # fmt: skip
    elbow = _link("r_elbow_flex_link", (0.4, 0, 0), "ef", _across(0.02), 0.06,
                  [_turn("r_elbow_flex_joint", Y, (-2.3213, 0), 0.1)], forearm_roll)  # fmt: skip
    upper = _link("r_upper_arm_link", ORIGIN, "ua", (ORIGIN, (0.4, 0, 0)), 0.06, [], elbow)
    upper_roll = _link("r_upper_arm_roll_link", ORIGIN, "uar", _along(0.1), 0.02,
                       [_turn("r_upper_arm_roll_joint", X, (-1.5, 1.7), 0.1)], upper)  # fmt: skip
    lift = _link("r_shoulder_lift_link", (0.1, 0, 0), "sl", _across(0.1), 0.1,
                 [_turn("r_shoulder_lift_joint", Y, (-0.5236, 1.3963), 1)], upper_roll)  # fmt: skip
    trunk = between((0, 0, -0.4), (0, 0, 0.2), 0.1, name="sp")
    pan = _turn("r_shoulder_pan_joint", Z, (-2.2854, 1.714602), 1)
    return Part("r_shoulder_pan_link", (0, -0.6, 0), [pan], [*eyes, trunk], [lift])


def _turn(name: str, axis: Vector, limits: Pair, damping: float) -> Fields:
    return hinge(name, axis, limits, damping=damping)


def _link(
    name: str, pos: Vector, geom: str, ends: tuple[Vector, Vector], radius: float,
    joints: list[Fields], holds: Part,
) -> Part:
    return Part(name, pos, joints, [between(*ends, radius, name=geom)], [holds])


def _across(half: float) -> tuple[Vector, Vector]:
    return (0, -half, 0), (0, half, 0)


def _along(half: float) -> tuple[Vector, Vector]:
    return (-half, 0, 0), (half, 0, 0)

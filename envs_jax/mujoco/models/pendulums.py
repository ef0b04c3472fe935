"""Pendulums on a cart."""

from typing import Any

from envs_jax.mujoco.models.build import (
    ORIGIN,
    RK4,
    Fields,
    Motor,
    Part,
    X,
    Y,
    between,
    build,
    capsule,
    hinge,
    plane,
    slide,
)  # fmt: skip

LAID = (0.707, 0, 0.707, 0)
"""A quarter of a turn about y."""
RAIL = capsule(0.02, 1, name="rail", quat=LAID)
CART = capsule(0.1, 0.1, name="cart", quat=LAID)
GEOM: Fields = {"contype": 0, "friction": (1, 0.1, 0.1)}


def inverted_pendulum() -> Any:
    """A pole that leans a little, on a cart."""
    pole = Part(
        "pole", ORIGIN, [hinge("hinge", Y, (-90, 90))],
        [between(ORIGIN, (0.001, 0, 0.6), 0.049, name="cpole")],
    )  # fmt: skip
    cart = Part("cart", ORIGIN, [slide("slider", X, (-1, 1))], [CART], [pole])
    return build(
        [cart], [Motor("slider", 100, (-3, 3))],
        world=[RAIL],
        joint={"armature": 0, "damping": 1, "limited": True},
        geom=GEOM,
        option={"timestep": 0.02, "integrator": RK4},
    )  # fmt: skip


def inverted_double_pendulum() -> Any:
    """A pole on a pole on a cart, in a world that is not quite level."""
    upper = Part(
        "pole2", (0, 0, 0.6), [hinge("hinge2", Y)], [_pole("cpole2")],
        sites=[{"name": "tip", "pos": (0, 0, 0.6), "size": (0.01, 0.01)}],
    )  # fmt: skip
    lower = Part("pole", ORIGIN, [hinge("hinge", Y)], [_pole("cpole")], [upper])
    joint = slide("slider", X, (-1, 1), limited=True, margin=0.01)
    return build(
        [Part("cart", ORIGIN, [joint], [CART], [lower])], [Motor("slider", 500)],
        world=[plane(40, 40, 40, name="floor", pos=(0, 0, -3)), RAIL],
        joint={"damping": 0.05},
        geom=GEOM,
        option={"timestep": 0.01, "integrator": RK4, "gravity": (1e-5, 0, -9.81)},
    )  # fmt: skip


def _pole(name: str) -> Fields:
    return between(ORIGIN, (0, 0, 0.6), 0.045, name=name)

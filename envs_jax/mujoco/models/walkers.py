"""Robots that walk in space: Ant, Humanoid and the same lying, HumanoidStandup."""

from typing import Any

from envs_jax.mujoco.models.build import (
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
    free,
    hinge,
    mujoco,
    plane,
    sphere,
)  # fmt: skip

# Ant

LEGS = {
    # Which way: names, whether the ankle bends the one way or the other.
    1: ("front_left_leg", ("aux_1_geom", "left_leg_geom", "left_ankle_geom"), (1, 1)),
    2: ("front_right_leg", ("aux_2_geom", "right_leg_geom", "right_ankle_geom"), (-1, 1)),
    3: ("back_leg", ("aux_3_geom", "back_leg_geom", "third_ankle_geom"), (-1, -1)),
    4: ("right_back_leg", ("aux_4_geom", "rightback_leg_geom", "fourth_ankle_geom"), (1, -1)),
}
"""Names of a leg and of its geoms, and the signs of x and y where it stands."""


def ant() -> Any:
    """A sphere on four legs of two hinges (Schulman et al. 2016)."""
    torso = Part(
        "torso", (0, 0, 0.75), [free("root", margin=0.01)], [sphere(0.25, name="torso_geom")],
        [_ant_leg(number) for number in LEGS],
    )  # fmt: skip
    order = [(joint, number) for number in (4, 1, 2, 3) for joint in ("hip", "ankle")]
    return build(
        [torso], [Motor(f"{joint}_{number}", 150) for joint, number in order],
        world=[plane(40, 40, 40, name="floor", conaffinity=1, condim=3)],
        joint={"armature": 1, "damping": 1, "limited": True},
        geom={"conaffinity": 0, "condim": 3, "density": 5, "friction": (1, 0.5, 0.5),
              "margin": 0.01},
        option={"timestep": 0.01, "integrator": RK4},
    )  # fmt: skip


def _ant_leg(number: int) -> Part:
    name, (inner, middle, outer), (x, y) = LEGS[number]
    near, far = (0.2 * x, 0.2 * y, 0), (0.4 * x, 0.4 * y, 0)
    # The ankles of 1 and 4 bend as the numbers say, those of 2 and 3 the other way round.
    limits = (30, 70) if x > 0 else (-70, -30)
    axis = (-1, 1, 0) if x == y else (1, 1, 0)
    foot = Part(
        "", near, [hinge(f"ankle_{number}", axis, limits)],
        [between(ORIGIN, far, 0.08, name=outer)],
    )  # fmt: skip
    shank = Part(
        f"aux_{number}", near, [hinge(f"hip_{number}", Z, (-30, 30))],
        [between(ORIGIN, near, 0.08, name=middle)], [foot],
    )  # fmt: skip
    return Part(name, ORIGIN, geoms=[between(ORIGIN, near, 0.08, name=inner)], parts=[shank])


# Humanoid

TURNED: Fields = {"quat": (1, 0, -0.002, 0)}
MOTORS = {
    "abdomen_y": 100, "abdomen_z": 100, "abdomen_x": 100, "right_hip_x": 100, "right_hip_z": 100,
    "right_hip_y": 300, "right_knee": 200, "left_hip_x": 100, "left_hip_z": 100, "left_hip_y": 300,
    "left_knee": 200, "right_shoulder1": 25, "right_shoulder2": 25, "right_elbow": 25,
    "left_shoulder1": 25, "left_shoulder2": 25, "left_elbow": 25,
}  # fmt: skip


def humanoid() -> Any:
    """A person that stands (Tassa et al. 2012)."""
    return _person(lying=False)


def humanoid_standup() -> Any:
    """The same person, lying on the back."""
    return _person(lying=True)


def _person(lying: bool) -> Any:
    head = (-0.15, 0, 0) if lying else (0, 0, 0.19)
    waist = (0.11, 0) if lying else (-0.01, -0.12)
    belly = (0.21, 0, 0) if lying else (-0.01, 0, -0.26)
    torso = Part(
        "torso", (0, 0, 0.105 if lying else 1.4), [free("root", stiffness=0)],
        [between((0, -0.07, 0), (0, 0.07, 0), 0.07, name="torso1"),
         sphere(0.09, name="head", pos=head), _sideways("uwaist", waist[0], 0.06, waist[1], 0.06)],
        [Part("lwaist", belly, [
            _body_joint("abdomen_z", Z, (-45, 45), 20, pos=(0, 0, 0.065)),
            _body_joint("abdomen_y", Y, (-75, 30), 10, pos=(0, 0, 0.065)),
        ], [_sideways("lwaist", 0, 0.06, 0, 0.06)], [_pelvis(lying)], TURNED),
         _person_arm("right", -1), _person_arm("left", 1)],
    )  # fmt: skip
    tendons = {
        f"{side}_hipknee": {f"{side}_hip_y": -1, f"{side}_knee": 1} for side in ("left", "right")
    }
    return build(
        [torso], [Motor(name, gear, (-0.4, 0.4)) for name, gear in MOTORS.items()],
        world=[plane(20, 20, 0.125, name="floor", condim=3, friction=(1, 0.1, 0.1))],
        joint={"armature": 1, "damping": 1, "limited": True},
        geom={"conaffinity": 1, "condim": 1, "contype": 1, "margin": 0.001},
        option={"timestep": 0.003, "integrator": RK4, "iterations": 50,
                "solver": mujoco.mjtSolver.mjSOL_PGS},
        tendons=tendons,
    )  # fmt: skip


def _sideways(name: str, x: float, half: float, z: float, radius: float) -> Fields:
    return between((x, -half, z), (x, half, z), radius, name=name)


def _body_joint(
    name: str, axis: Vector, limits: Pair, stiffness: float, armature: float = 0.02, **fields: Any
) -> Fields:
    return hinge(
        name, axis, limits, armature=armature, damping=5, stiffness=stiffness, **fields
    )


def _pelvis(lying: bool) -> Part:
    return Part(
        "pelvis", (0.165, 0, 0) if lying else (0, 0, -0.165),
        [_body_joint("abdomen_x", X, (-35, 35), 10, pos=(0, 0, 0.1))],
        [_sideways("butt", -0.02, 0.07, 0, 0.09)],
        [_person_leg("right", -1, lying), _person_leg("left", 1, lying)], TURNED,
    )  # fmt: skip


def _person_leg(side: str, y: int, lying: bool) -> Part:
    """A leg; ``y`` is the side's sign."""

    def down(length: float, across: float = 0.0) -> Vector:
        return (length, across, 0) if lying else (0, across, -length)

    bends = -120 if lying and y > 0 else -110
    stiff: Fields = {"stiffness": 1} if y > 0 else {}
    foot = Part(
        f"{side}_foot", (0.35, 0, -0.1) if lying else (0, 0, -0.45),
        geoms=[sphere(0.075, name=f"{side}_foot", pos=(0, 0, 0.1))],
    )  # fmt: skip
    shin = Part(
        f"{side}_shin", down(0.403, -0.01 * y),
        [hinge(f"{side}_knee", (0, -1, 0), (-160, -2), armature=0.006, pos=(0, 0, 0.02), **stiff)],
        [between(ORIGIN, down(0.3), 0.049, name=f"{side}_shin1")], [foot],
    )  # fmt: skip
    return Part(
        f"{side}_thigh", (0, 0.1 * y, 0) if lying else (0, 0.1 * y, -0.04),
        [_body_joint(f"{side}_hip_x", (-y, 0, 0), (-25, 5), 10, 0.01),
         _body_joint(f"{side}_hip_z", (0, 0, -y), (-60, 35), 10, 0.01),
         _body_joint(f"{side}_hip_y", Y, (bends, 20), 20, 0.01 if y > 0 else 0.008)],
        [between(ORIGIN, down(0.34, -0.01 * y), 0.06, name=f"{side}_thigh1")], [shin],
    )  # fmt: skip


def _person_arm(side: str, y: int) -> Part:
    limits = (-60, 85) if y > 0 else (-85, 60)
    lower = Part(
        f"{side}_lower_arm", (0.18, 0.18 * y, -0.18),
        [hinge(f"{side}_elbow", (0, -1, -y), (-90, 50), armature=0.0028, stiffness=0)],
        [between((0.01, -0.01 * y, 0.01), (0.17, -0.17 * y, 0.17), 0.031, name=f"{side}_larm"),
         sphere(0.04, name=f"{side}_hand", pos=(0.18, -0.18 * y, 0.18))],
    )  # fmt: skip
    return Part(
        f"{side}_upper_arm", (0, 0.17 * y, 0.06),
        [hinge(f"{side}_shoulder1", (2, -y, 1), limits, armature=0.0068, stiffness=1),
         hinge(f"{side}_shoulder2", (0, y, 1), limits, armature=0.0051, stiffness=1)],
        [between(ORIGIN, (0.16, 0.16 * y, -0.16), 0.04, name=f"{side}_uarm1")], [lower],
    )  # fmt: skip

"""Models of MuJoCo that are built in code: bit by bit those that Gymnasium loads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs_jax.mujoco import engine as mujoco_engine
from envs_jax.mujoco.robots import ROBOTS
from envs_jax.mujoco.tasks import make_model

mujoco = pytest.importorskip("mujoco")
gymnasium = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.skipif(bool(mujoco_engine.missing()), reason="another mujoco")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """The engine writes what it remarks on Gymnasium's model into a file of the current folder."""
    monkeypatch.chdir(tmp_path)


LOOKS = (
    "cam_", "light_", "mat_", "tex_", "geom_matid", "geom_rgba", "geom_user", "nuser_geom", "ncam",
    "nlight", "nmat", "ntex", "name", "nnames", "narena", "nbuffer", "signature", "site_rgba",
    "numeric_", "nnumeric", "key_", "nkey",
)  # fmt: skip
"""Beginnings of fields that physics does not read: looks, names, notes, and sizes of memory."""

MODELS = {
    "halfcheetah": "half_cheetah.xml", "hopper": "hopper.xml", "walker2d": "walker2d_v5.xml",
    "swimmer": "swimmer.xml", "ant": "ant.xml", "humanoid": "humanoid.xml",
    "humanoid_standup": "humanoidstandup.xml", "reacher": "reacher.xml", "pusher": "pusher_v5.xml",
    "inverted_pendulum": "inverted_pendulum.xml",
    "inverted_double_pendulum": "inverted_double_pendulum.xml",
}  # fmt: skip


def test_every_robot_has_a_model():
    assert MODELS.keys() == ROBOTS.keys()


def numbers_of(part: Any, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """All numeric attributes by name."""
    names = [name for name in dir(part) if not name.startswith(("_", *without))]
    values = {name: getattr(part, name) for name in names}
    return {
        name: np.asarray(value) for name, value in values.items()
        if isinstance(value, np.ndarray | np.number | int | float)
    }  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_bits_of_gymnasiums(name):
    assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    theirs = mujoco.MjModel.from_xml_path(str(assets / MODELS[name]))
    ours = make_model(ROBOTS[name])
    parts = [(ours, theirs, LOOKS), (ours.opt, theirs.opt, ()), (ours.stat, theirs.stat, ())]
    for own, other, without in parts:
        expected, found = numbers_of(other, without), numbers_of(own, without)
        assert expected.keys() == found.keys() and len(expected) > 4
        for field, values in expected.items():
            same = np.array_equal(values, found[field])
            assert values.dtype == found[field].dtype and same, field
    assert len(numbers_of(theirs, LOOKS)) > 300


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["body", "jnt"])
def test_a_model_has_the_names_of_gymnasiums(name, kind):
    assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    theirs = mujoco.MjModel.from_xml_path(str(assets / MODELS[name]))
    ours = make_model(ROBOTS[name])
    assert getattr(ours, f"n{kind}") == getattr(theirs, f"n{kind}")
    part = {"body": "body", "jnt": "joint"}[kind]
    for number in range(getattr(ours, f"n{kind}")):
        assert getattr(ours, part)(number).name == getattr(theirs, part)(number).name

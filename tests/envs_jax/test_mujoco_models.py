"""Models of MuJoCo that are built in code: bit by bit those that Gymnasium loads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs_jax import mujoco_engine

mujoco = pytest.importorskip("mujoco")
gymnasium = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.skipif(bool(mujoco_engine.missing()), reason="another mujoco")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """The engine writes what it remarks on Gymnasium's model into a file of the current folder."""
    monkeypatch.chdir(tmp_path)


LOOKS = (
    "cam_", "light_", "mat_", "tex_", "geom_matid", "geom_rgba", "geom_user", "nuser_geom", "ncam",
    "nlight", "nmat", "ntex", "name", "nnames", "narena", "nbuffer", "signature",
)  # fmt: skip
"""Beginnings of fields that physics does not read: looks, names, and sizes of memory."""


def numbers_of(part: Any, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """All numeric attributes by name."""
    names = [name for name in dir(part) if not name.startswith(("_", *without))]
    values = {name: getattr(part, name) for name in names}
    return {
        name: np.asarray(value) for name, value in values.items()
        if isinstance(value, np.ndarray | np.number | int | float)
    }  # fmt: skip


def test_half_cheetah_has_the_bits_of_gymnasiums():
    from envs_jax.mujoco_models import half_cheetah

    assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    theirs = mujoco.MjModel.from_xml_path(str(assets / "half_cheetah.xml"))
    ours = half_cheetah()
    parts = [(ours, theirs, LOOKS), (ours.opt, theirs.opt, ()), (ours.stat, theirs.stat, ())]
    for own, other, without in parts:
        expected, found = numbers_of(other, without), numbers_of(own, without)
        assert expected.keys() == found.keys() and len(expected) > 4
        for name, values in expected.items():
            assert values.dtype == found[name].dtype and np.array_equal(values, found[name]), name
    assert len(numbers_of(theirs, LOOKS)) > 300


@pytest.mark.parametrize("kind", ["body", "joint", "geom", "actuator"])
def test_half_cheetah_has_the_names_of_gymnasiums(kind):
    from envs_jax.mujoco_models import half_cheetah

    theirs = gymnasium.make("HalfCheetah-v5", disable_env_checker=True).unwrapped.model
    num = {"body": 8, "joint": 9, "geom": 9, "actuator": 6}[kind]
    ours, theirs = (
        [getattr(model, kind)(number).name for number in range(num)]
        for model in (half_cheetah(), theirs)
    )
    assert ours == theirs

"""Pictures and films of robots: what they show, who draws them, the best, median and worst."""

from typing import Any

import jax
import numpy as np
import pytest

from envs_jax.mujoco import drawing, engine
from envs_jax.mujoco.robots import ROBOTS
from envs_jax.mujoco.tasks import MujocoTask, Simulations, make_model
from jaxgen.evaluation.policy import Acting
from jaxgen.evaluation.suite import Shots, make_suite

mujoco = pytest.importorskip("mujoco")
pytestmark = pytest.mark.skipif(bool(engine.missing()), reason="another mujoco")


@pytest.fixture(autouse=True)
def without_gl(monkeypatch):
    """Flat pictures, whatever this machine has."""
    monkeypatch.setattr(drawing.sys, "platform", "linux")
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def bodies_of(image: np.ndarray) -> np.ndarray:
    """Pixels that are neither sky nor ground nor grid: they have a colour."""
    return np.ptp(image.astype(int), axis=2) > 25


@pytest.mark.parametrize("name", ROBOTS)
def test_a_picture_shows_the_robot_whole(name):
    """Within the picture and not lost in it, also after a second of random steps."""
    task = MujocoTask(name)
    sims = Simulations(task, 2, 0.0)
    sims.begin(np.arange(2), np.array([3, 4]), np.zeros(2, np.float32))
    first, size = sims.render(0), task.robot.sizes(task.options)[1]
    random = np.random.default_rng(0)
    for _ in range(8):
        action = task.robot.reach * random.uniform(-1, 1, (2, size))
        sims.step(action.astype(np.float32))
    after = sims.render(0)
    assert first.shape == (drawing.HEIGHT, drawing.WIDTH, 3) and first.dtype == np.uint8
    assert (first != after).any()
    for image in (first, after):
        shown = bodies_of(image)
        assert 300 < shown.sum() < image[..., 0].size / 3
        if name not in ("reacher", "inverted_pendulum", "inverted_double_pendulum"):
            # Of these the rails and walls leave the picture.
            assert not shown[[0, -1]].any() and not shown[:, [0, -1]].any()


def test_a_picture_is_a_projection():
    """A pole of .6 m that leans by a right angle is as long, and lies where it stood."""
    model = make_model(ROBOTS["inverted_pendulum"])
    painter = drawing.Painter(model, drawing.VIEWS["inverted_pendulum"])

    def pole(angle: float) -> np.ndarray:
        image = painter.paint(np.array([0.0, angle]))
        number = model.body("pole").id
        return np.argwhere((image == drawing.BODIES[number % len(drawing.BODIES)]).all(2))

    standing, lying = pole(0.0), pole(np.pi / 2)
    pixels = drawing.WIDTH / drawing.VIEWS["inverted_pendulum"].width
    thickness = 2 * 0.049
    assert np.ptp(standing[:, 0]) == pytest.approx((0.6 + thickness) * pixels, abs=4)
    assert np.ptp(standing[:, 1]) == pytest.approx(thickness * pixels, abs=4)
    assert np.ptp(lying[:, 1]) == pytest.approx((0.6 + thickness) * pixels, abs=4)
    # Positive angles lean to positive x, which is to the right.
    assert lying[:, 1].max() > standing[:, 1].max() + 40


class FakeRenderer:
    """Stands for OpenGL."""

    def __init__(self, model: Any, height: int, width: int):
        self.image = np.full((height, width, 3), 7, np.uint8)

    def update_scene(self, data: Any, camera: Any) -> None:
        """Write into the picture where the camera looks."""
        self.image[0, 0] = np.round(camera.lookat * 10)

    def render(self) -> np.ndarray:
        """The picture."""
        return self.image


def test_opengl_draws_where_there_is_some(monkeypatch):
    model, view = make_model(ROBOTS["halfcheetah"]), drawing.VIEWS["halfcheetah"]
    monkeypatch.setattr(mujoco, "Renderer", FakeRenderer, raising=False)
    qpos = np.zeros(model.nq)
    qpos[0] = 5
    assert (drawing.Painter(model, view).paint(qpos)[1] == 255).all()
    monkeypatch.setenv("MUJOCO_GL", "egl")
    image = drawing.Painter(model, view).paint(qpos)
    assert (image[1:] == 7).all() and list(image[0, 0]) == [50, 0, 8]

    def broken(*arguments: Any) -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    assert (drawing.Painter(model, view).paint(qpos)[1] == 255).all()


def test_films_of_some_episodes():
    """Every tenth step and the last one, of the second and the third of four episodes, beside the
    returns of all."""
    task = MujocoTask("hopper")
    suite = make_suite(task, jax.random.key(0), (0.0,), 4)
    still = Acting(lambda obs, words: np.zeros((len(obs), 3), np.float32), 1)
    shots = Shots(lambda image: image, frozenset({1, 2}), every=10)
    films = list(suite.films(still, 1, shots))
    whole = list(suite.films(still, 1, Shots(lambda image: 0)))
    assert len(films) == 2 and len(whole) == 4
    for film, same in zip(films, whole[1:3], strict=True):
        assert (film.length, film.total) == (same.length, same.total)
        assert len(same.frames) == film.length + 1
        assert len(film.frames) == 1 + film.length // 10 + bool(film.length % 10)
        # It fell: the end is shown, not the next start.
        assert (film.frames[0] != film.frames[-1]).mean() > 0.01


def test_first_pictures_are_alike_at_all_levels():
    suite = make_suite(MujocoTask("walker2d"), jax.random.key(0), (0.0, 1.0), 2)
    usual, shifted = suite.first_images()
    np.testing.assert_array_equal(usual, shifted)

"""Pictures of robots: by MuJoCo's renderer where there is OpenGL, else as flat shapes.

The flat picture is a parallel projection of all bodies, the farthest first, with a grid of metres
on the ground. OpenGL is tried where a screen or the variable MUJOCO_GL says that there is some.
"""

import os
import sys
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

HEIGHT, WIDTH = 240, 320
"""Pixels of a picture."""
FINER = 2
"""Pixels are means of so many times as many in each direction, so that edges are smooth."""
SKY, GROUND, GRID, EDGE = "white", (232, 232, 226), (196, 196, 188), (70, 70, 70)
BODIES = (
    (204, 120, 77), (92, 140, 190), (122, 170, 105), (200, 170, 80), (150, 115, 175),
)  # fmt: skip
"""Colours, one for each body in turn."""
LOWEST = 10.0
"""Elevation in degrees below which the ground is seen from the side, as a line."""


class View(NamedTuple):
    """A place to see a robot from."""

    width: float
    """Metres that a picture shows."""
    elevation: float = 0.0
    """Degrees above the ground: 0 from the side, 90 from above."""
    azimuth: float = 0.0
    """Degrees about the vertical."""
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Point in the middle of the picture."""
    follows: bool = True
    """Whether the middle goes with the first body over the ground."""


VIEWS = {
    "halfcheetah": View(4.0, middle=(0, 0, 0.8)),
    "hopper": View(3.2, middle=(0, 0, 0.9)),
    "walker2d": View(3.2, middle=(0, 0, 0.9)),
    "swimmer": View(4.0, 90),
    "ant": View(5.0, 30, 25, (0, 0, 0.4)),
    "humanoid": View(3.6, 15, 25, (0, 0, 1.0)),
    "humanoid_standup": View(3.6, 15, 25, (0, 0, 0.8)),
    "reacher": View(0.7, 90, follows=False),
    "pusher": View(2.2, 45, 0, (0.2, -0.1, -0.2), follows=False),
    "inverted_pendulum": View(2.8, middle=(0, 0, 0.3), follows=False),
    "inverted_double_pendulum": View(3.2, middle=(0, 0, 0.5), follows=False),
}
"""Where each robot is seen from."""


class Painter:
    """Draws states of a model.

    Args:
      model: the engine's.
      view: where it is seen from.
    """

    def __init__(self, model: Any, view: View):
        self._engine: Any = import_module("mujoco")
        self._model, self._view, self._data = model, view, self._engine.MjData(model)
        self._renderer = _renderer(self._engine, model)

    def paint(self, qpos: np.ndarray) -> np.ndarray:
        """Draw positions ``[nq]`` -> RGB uint8 ``[240, 320, 3]``."""
        self._data.qpos[:] = qpos
        self._engine.mj_forward(self._model, self._data)
        if self._renderer is None:
            return self._flat()
        camera = self._engine.MjvCamera()
        camera.lookat[:] = self._middle()
        camera.distance = 1.2 * self._view.width
        camera.azimuth, camera.elevation = 90 + self._view.azimuth, -self._view.elevation
        self._renderer.update_scene(self._data, camera)
        return self._renderer.render()

    def _middle(self) -> np.ndarray:
        middle = np.array(self._view.middle)
        if self._view.follows:
            middle[:2] += self._data.xpos[1, :2]
        return middle

    def _flat(self) -> np.ndarray:
        image = Image.new("RGB", (FINER * WIDTH, FINER * HEIGHT), SKY)
        draw, middle = ImageDraw.Draw(image), self._middle()
        self._draw_ground(draw, middle)
        depths = self._project(self._data.geom_xpos, middle)[1]
        for geom in np.argsort(-depths, kind="stable"):
            self._draw_geom(draw, int(geom), middle)
        return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))

    def _project(self, points: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[n, 3]`` -> columns and rows ``[n, 2]`` in fine pixels, and depths ``[n]``."""
        turn, tilt = np.radians([self._view.azimuth, self._view.elevation])
        x, y, z = (points - middle).T
        right = x * np.cos(turn) + y * np.sin(turn)
        away = y * np.cos(turn) - x * np.sin(turn)
        up = z * np.cos(tilt) + away * np.sin(tilt)
        scale = FINER * WIDTH / self._view.width
        centre = FINER * np.array([WIDTH, HEIGHT]) / 2
        places = centre + scale * np.stack([right, -up], axis=1)
        return places, away * np.cos(tilt) - z * np.sin(tilt)

    def _draw_ground(self, draw: ImageDraw.ImageDraw, middle: np.ndarray) -> None:
        """A line with marks, or lines along and across; a metre apart."""
        planes = self._model.geom_type == self._engine.mjtGeom.mjGEOM_PLANE
        if not planes.any():
            return
        height = float(self._data.geom_xpos[np.flatnonzero(planes)[0], 2])
        reach = int(2 * self._view.width) + 1
        numbers = np.arange(-reach, reach + 1)
        ground = np.array([middle[0], middle[1], height])
        if self._view.elevation < LOWEST:
            row = self._project(ground[None], middle)[0][0, 1]
            if row < FINER * HEIGHT:
                draw.rectangle((0, row, FINER * WIDTH, FINER * HEIGHT), GROUND)
            for x in np.floor(middle[0]) + numbers:
                column = self._project(np.array([[x, middle[1], height]]), middle)[0][0, 0]
                draw.line((column, row, column, row + 6 * FINER), GRID, FINER)
            return
        draw.rectangle((0, 0, FINER * WIDTH, FINER * HEIGHT), GROUND)
        for axis in range(2):
            for at in np.floor(middle[axis]) + numbers:
                ends = np.tile(ground, (2, 1))
                ends[:, axis], ends[0, 1 - axis] = at, middle[1 - axis] - reach
                ends[1, 1 - axis] = middle[1 - axis] + reach
                draw.line([*self._project(ends, middle)[0].ravel()], GRID, FINER)

    def _draw_geom(self, draw: ImageDraw.ImageDraw, geom: int, middle: np.ndarray) -> None:
        kinds, kind = self._engine.mjtGeom, self._model.geom_type[geom]
        if kind == kinds.mjGEOM_PLANE:
            return
        radius, half, _ = self._model.geom_size[geom]
        along = self._data.geom_xmat[geom].reshape(3, 3)[:, 2]
        reach = 0.0 if kind == kinds.mjGEOM_SPHERE else half
        centre = self._data.geom_xpos[geom]
        ends = self._project(np.stack([centre - reach * along, centre + reach * along]), middle)[0]
        pixels = radius * FINER * WIDTH / self._view.width
        colour = BODIES[int(self._model.geom_bodyid[geom]) % len(BODIES)]
        _draw_capsule(draw, ends, pixels + FINER, EDGE)
        _draw_capsule(draw, ends, pixels, colour)


def _draw_capsule(
    draw: ImageDraw.ImageDraw, ends: np.ndarray, radius: float, colour: tuple[int, int, int]
) -> None:
    radius = max(radius, FINER)
    draw.line([*ends.ravel()], colour, round(2 * radius))
    for column, row in ends:
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), colour)


def _renderer(engine: Any, model: Any) -> Any:
    """MuJoCo's own; None: there is no OpenGL."""
    variables = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in variables):
        return None
    try:
        return engine.Renderer(model, HEIGHT, WIDTH)
    except Exception:
        # Drivers fail in ways of their own; the flat picture needs none.
        return None

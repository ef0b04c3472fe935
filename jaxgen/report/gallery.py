"""Pictures of environments: what episodes begin with, and how an agent plays them.

Episodes are those of an evaluation (`jaxgen.evaluation`), so that what is seen is what is scored.
Pillow comes with matplotlib.
"""

import io
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgen.evaluation.agent import Agent, check_fits
from jaxgen.evaluation.suite import Film, make_suite
from jaxgen.types import Array, HostTask, Task

SHEET_SIDE = 120
"""Pixels; images of a contact sheet whose shorter side has fewer are enlarged."""
GIF_SIDE = 200
"""The same for animations: 64 becomes 256, the grid's 120 becomes 240."""
MARGIN, GAP = 16, 12
"""Pixels around a sheet and between its images."""
TITLE_SIZE, TEXT_SIZE = 20, 16
"""Pixels."""
LABEL_HEIGHT = 24
"""Pixels from the top of a row's label to its images."""
FRAME_TIMES = (70, 70, 60)
"""Milliseconds, in turn: 15 frames a second in the hundredths that GIF knows."""
LAST_TIME = 1000
"""Milliseconds for which the last frame of an episode stays."""


class Row(NamedTuple):
    """A row of a contact sheet."""

    label: str
    images: Sequence[np.ndarray]
    """uint8 ``[H, W, 3]``."""


# What episodes begin with


def first_images(
    task: Task | HostTask, key: Array, levels: tuple[float, ...], count: int
) -> list[list[np.ndarray]]:
    """First images of an evaluation of ``count`` episodes: a list of images for each level.

    These are the first episodes of longer evaluations too, but where a level mixes kinds of them.
    """
    return make_suite(task, key, levels, count).first_images()


def contact_sheet(title: str, rows: Sequence[Row]) -> Image.Image:
    """Rows of images under their labels; all images are enlarged alike."""
    factor = _factor((image for row in rows for image in row.images), SHEET_SIDE)
    tiles = [[_enlarged(Image.fromarray(image), factor) for image in row.images] for row in rows]
    title_font, font = (ImageFont.load_default(size) for size in (TITLE_SIZE, TEXT_SIZE))
    column = max(tile.width for row in tiles for tile in row) + GAP
    heights = [max(tile.height for tile in row) for row in tiles]
    texts = [title_font.getlength(title), *(font.getlength(row.label) for row in rows)]
    width = max(max(map(len, tiles)) * column - GAP, *(int(length) + 1 for length in texts))
    height = 2 * TITLE_SIZE + sum(LABEL_HEIGHT + height + GAP for height in heights)
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, "black", title_font)
    top = MARGIN + 2 * TITLE_SIZE
    for row, row_tiles, tallest in zip(rows, tiles, heights, strict=True):
        draw.text((MARGIN, top), row.label, "black", font)
        top += LABEL_HEIGHT
        for left, tile in zip(itertools.count(MARGIN, column), row_tiles):
            # Some images are as white as the sheet.
            edge = (left - 1, top - 1, left + tile.width, top + tile.height)
            draw.rectangle(edge, outline="silver")
            sheet.paste(tile, (left, top))
        top += tallest + GAP
    return sheet


def to_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


# How an agent plays


def film(
    agent: Agent, task: Task | HostTask, key: Array, level: float, num_episodes: int,
    sampled: bool = False,
) -> list[Film]:
    """Play the first evaluation episodes of a level.

    Args:
      agent: its specification is that of the task, with images stacked.
      task: where it plays.
      key: of the evaluation.
      level: variation level in [0, 1].
      num_episodes: one film each.
      sampled: draw actions from the policy; otherwise the best one is taken.

    Raises:
      ValueError: the agent was trained on something else, or its training diverged.
    """
    check_fits(agent, task)
    suite = make_suite(task, key, (level,), num_episodes)
    return list(suite.films(agent.acting(sampled), agent.config.num_frames, _frame))


def to_gif(clips: Sequence[Film]) -> bytes:
    """The bytes of an animated GIF: clips one after the other, again and again.

    Frames that are like the one before are not stored again: that one stays for longer.
    """
    frames = [frame for clip in clips for frame in clip.frames]
    times = [
        LAST_TIME if frame is clip.frames[-1] else time
        for clip in clips
        for frame, time in zip(clip.frames, itertools.cycle(FRAME_TIMES))
    ]
    stream = io.BytesIO()
    frames[0].save(
        stream, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0
    )
    return stream.getvalue()


# Parts


def _frame(image: np.ndarray) -> Image.Image:
    """A frame of an animation, uint8 ``[H, W, 3]``: a palette takes a third of the memory."""
    small = Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE)
    return _enlarged(small, _factor([image], GIF_SIDE))


def _factor(images: Iterable[np.ndarray], side: int) -> int:
    """The factor of enlargement, so that the shortest side of all has so many pixels or more."""
    return -(-side // min(min(image.shape[:2]) for image in images))


def _enlarged(image: Image.Image, factor: int) -> Image.Image:
    """Pixels become squares."""
    size = (factor * image.width, factor * image.height)
    return image.resize(size, Image.Resampling.NEAREST)

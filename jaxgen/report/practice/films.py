"""Pictures of environments: what episodes begin with, and how an agent plays them.

Episodes are those of an evaluation (`jaxgen.evaluation`), so that what is seen is what is scored.
Pillow comes with matplotlib.
"""

import importlib.util
import io
import itertools
import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgen.evaluation.agent import Agent, check_fits, returns_of
from jaxgen.evaluation.suite import Film, Shots, make_suite
from jaxgen.system.errors import BadInput
from jaxgen.system.files import write_bytes
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
MAX_FRAMES = 1000
"""Frames of an episode; of a longer one every second, third ... is shown."""
PICKS = ("best", "median", "worst")
"""Names of episodes by the order of their returns; of an even number the lower median."""
FPS = 15
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
    agent: Agent,
    task: Task | HostTask,
    key: Array,
    level: float,
    num_episodes: int,
    sampled: bool = False,
    picks: Sequence[str] = (),
    max_frames: int | None = None,
) -> dict[str, Film]:
    """Play the first evaluation episodes of a level.

    Args:
      agent: its specification is that of the task, with images stacked.
      task: where it plays.
      key: of the evaluation.
      level: variation level in [0, 1].
      num_episodes: how many.
      sampled: draw actions from the policy; otherwise the best one is taken.
      picks: the only ones that are filmed, of `PICKS`; empty: all are.
      max_frames: of an episode; None: `MAX_FRAMES`.

    Returns:
      A film by what to call it, ``episode 3`` or ``median of 20, episode 3``.

    Raises:
      ValueError: the agent was trained on something else, or its training diverged.
    """
    check_fits(agent, task)
    suite = make_suite(task, key, (level,), num_episodes)
    numbers = {f"episode {number}": number for number in range(num_episodes)}
    if picks:
        played = returns_of(agent, suite, "sampled" if sampled else "greedy")[0]
        order = np.argsort(played, kind="stable")
        places = {"worst": 0, "median": (num_episodes - 1) // 2, "best": num_episodes - 1}
        numbers = {
            f"{pick} of {num_episodes}, episode {order[places[pick]]}": int(order[places[pick]])
            for pick in picks
        }
    every = -(-task.spec.max_episode_steps // (max_frames or MAX_FRAMES))
    shots = Shots(_frame, frozenset(numbers.values()), every)
    films = suite.films(agent.acting(sampled), agent.config.num_frames, shots)
    by_number = dict(zip(sorted(shots.episodes or ()), films, strict=True))
    return {name: by_number[number] for name, number in numbers.items()}


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


def write_film(path: Path, clips: Sequence[Film]) -> list[Path]:
    """Write clips as a GIF and, where imageio-ffmpeg is installed, as an MP4 beside it.

    Args:
      path: of the GIF.
      clips: one after the other.

    Returns:
      What was written.
    """
    write_bytes(path, to_gif(clips))
    if not can_write_mp4():
        return [path]
    write_mp4(path.with_suffix(".mp4"), clips)
    return [path, path.with_suffix(".mp4")]


def can_write_mp4() -> bool:
    """Whether imageio-ffmpeg is installed."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def write_mp4(path: Path, clips: Sequence[Film]) -> None:
    """Write clips one after the other as a film of 15 frames a second; see `can_write_mp4`.

    The last frame of an episode stays for a second. A file that is there already stays until the
    new one is whole.
    """
    import imageio_ffmpeg

    # The codec takes sides that are even.
    width, height = (side - side % 2 for side in clips[0].frames[0].size)
    whole = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    words = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo",
        "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "-",
        "-vcodec", "libx264", "-pix_fmt", "yuv420p", str(whole),
    ]  # fmt: skip
    try:
        # Its own writer leaves a pipe open, and gives up after some seconds.
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stdin is not None
            frames = (f for clip in clips for f in (*clip.frames, *clip.frames[-1:] * (FPS - 1)))
            # Where it gave up, its exit code says so.
            with suppress(BrokenPipeError):
                for frame in frames:
                    image = frame.convert("RGB").crop((0, 0, width, height))
                    process.stdin.write(image.tobytes())
        if process.returncode:
            raise BadInput(f"{path} cannot be written: ffmpeg ended with {process.returncode}")
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


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

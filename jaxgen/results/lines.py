"""Lines between pairs of forks, as files below ``lines/`` of a results folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.results.store import Store
from jaxgen.system import archives
from jaxgen.system.files import DamagedFile

KIND = "jaxgen line"
"""The ``kind`` of a line's archive."""


class Line(NamedTuple):
    """The returns along a line, with all that is needed to judge them."""

    returns: np.ndarray
    """float32 ``[A, K, E]``: episodes are the same for all points."""
    floor: np.ndarray
    """Mean return of random play at each level, float64 ``[K]``."""
    ceiling: np.ndarray
    distance: float
    """Between the vectors of the ends (L2)."""
    meta: Mapping[str, Any]
    """``environment``, ``algorithm``, ``arm``, ``parent``, ``seed``, ``point``, ``replay``,
    ``number``, ``pair``, ``ends``, ``alphas``, ``levels``, ``quick``."""


def line_path(store: Store, parent: str, seed: int, pair: str) -> Path:
    """The file of a pair's line."""
    return store.path(f"lines/{parent}/seed_{seed:04d}/{pair}.npz")


def write_line(store: Store, line: Line) -> None:
    """Write a line; the file appears whole or not at all."""
    meta = {"kind": KIND, **line.meta}
    arrays = {
        "returns": line.returns, "floor": line.floor, "ceiling": line.ceiling,
        "distance": np.array([line.distance], np.float64),
    }  # fmt: skip
    name = f"lines/{meta['parent']}/seed_{meta['seed']:04d}/{meta['pair']}.npz"
    store.write_bytes(name, archives.pack_described(arrays, meta))  # pyright: ignore


def read_line(path: Path) -> Line:
    """Read a line.

    Raises:
      DamagedFile: it is missing, damaged, or something else.
    """
    arrays, meta = archives.load_described(path)
    if meta.get("kind") != KIND:
        raise DamagedFile(path, "it is no line of jaxgen")
    return Line(
        arrays["returns"], arrays["floor"], arrays["ceiling"], float(arrays["distance"][0]), meta
    )


def read_lines(store: Store) -> tuple[list[Line], list[str]]:
    """All lines of a folder in the order of their names, and damage in words."""
    lines, damaged = [], []
    for path in sorted((store.root / "lines").rglob("*.npz")):
        try:
            lines.append(read_line(path))
        except DamagedFile as damage:
            damaged.append(str(damage))
    return lines, damaged

"""Lines between two ends, as files below ``lines/`` of a results folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.results.store import Store
from jaxgen.system import archives
from jaxgen.system.files import DamagedFile

KIND = "jaxgen line"
"""The ``kind`` of a line's archive."""
STRAIGHT = "straight"
"""The path between the ends as they are; others are aligned, or of a layer."""


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
    """``environment``, ``algorithm``, ``arm``, ``parent``, ``seed``, ``point``, ``strategy``,
    ``path``, ``number``, ``pair``, ``ends``, ``alphas``, ``levels``, ``quick``."""
    critics: np.ndarray | None = None
    """`jaxgen.evaluation.connectivity.critics.CriticLine`, float64 ``[3, A]``, if measured."""


def line_path(store: Store, parent: str, seed: int, name: str) -> Path:
    """The file of a line."""
    return store.path(_file(parent, seed, name))


def _file(parent: str, seed: int, name: str) -> str:
    return f"lines/{parent}/seed_{seed:04d}/{name}.npz"


def write_line(store: Store, name: str, line: Line) -> None:
    """Write a line; the file appears whole or not at all."""
    meta = {"kind": KIND, **line.meta}
    arrays = {
        "returns": line.returns, "floor": line.floor, "ceiling": line.ceiling,
        "distance": np.array([line.distance], np.float64),
    }  # fmt: skip
    if line.critics is not None:
        arrays["critics"] = line.critics
    path = _file(meta["parent"], meta["seed"], name)
    store.write_bytes(path, archives.pack_described(arrays, meta))  # pyright: ignore


def read_line(path: Path) -> Line:
    """Read a line.

    Raises:
      DamagedFile: it is missing, damaged, or something else.
    """
    arrays, meta = archives.load_described(path)
    if meta.get("kind") != KIND:
        raise DamagedFile(path, "it is no line of jaxgen")
    return Line(
        arrays["returns"], arrays["floor"], arrays["ceiling"], float(arrays["distance"][0]), meta,
        arrays.get("critics"),
    )  # fmt: skip


def read_lines(store: Store) -> tuple[list[Line], list[str]]:
    """All lines of a folder in the order of their names, and damage in words."""
    lines, damaged = [], []
    for path in sorted((store.root / "lines").rglob("*.npz")):
        try:
            lines.append(read_line(path))
        except DamagedFile as damage:
            damaged.append(str(damage))
    return lines, damaged

"""Spaces of other libraries as jaxgen's; gymnax and gymnasium name and fill them alike."""

from typing import Any

import numpy as np

from jaxgen.types import Box, Discrete, Image, Numbers

UNBOUNDED = 1e9
"""Ends beyond it are none: velocities of 3e38 cannot be scaled."""


def numbers_of(name: str, space: Any) -> Numbers:
    """An observation space as one vector of numbers; ValueError: it is neither Box nor Discrete."""
    if _kind(space) == "Discrete":
        first = float(getattr(space, "start", 0))
        return Numbers((first,), (first + float(max(space.n - 1, 1)),))
    if _kind(space) != "Box":
        raise ValueError(f"{name} shows {_kind(space)} spaces; only Box and Discrete can be read")
    low, high = (end.astype(np.float64) for end in _ends(space))
    known = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
    return Numbers(
        tuple(np.where(known, low, -np.inf).tolist()), tuple(np.where(known, high, np.inf).tolist())
    )


def image_or_numbers(name: str, space: Any) -> Image | Numbers:
    """The same, with a Box of uint8 ``[H, W, C]`` as an image."""
    if _kind(space) == "Box" and len(space.shape) == 3 and space.dtype == np.uint8:
        return Image(*space.shape)
    return numbers_of(name, space)


def actions_of(name: str, space: Any) -> Discrete | Box:
    """An action space; ValueError: it is neither Discrete nor a Box of floats."""
    if _kind(space) == "Discrete":
        return Discrete(int(space.n))
    if _kind(space) != "Box" or not np.issubdtype(space.dtype, np.floating):
        of = f" of {np.dtype(space.dtype).name}" if _kind(space) == "Box" else ""
        raise ValueError(f"{name} has actions of {_kind(space)}{of}; only Discrete and Box act")
    low, high = _ends(space)
    return Box(tuple(low.tolist()), tuple(high.tolist()))


def _kind(space: Any) -> str:
    return type(space).__name__


def _ends(space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of a Box's numbers, flat."""
    low, high = (np.broadcast_to(np.asarray(end), space.shape) for end in (space.low, space.high))
    return low.ravel(), high.ravel()

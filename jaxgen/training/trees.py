"""Trees of arrays with the lanes in front, ``[L, ...]``, and of single lanes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.types import PyTree


def lane_at(tree: PyTree, index: int) -> Any:
    """The part of one lane: leaves ``[L, ...]`` -> ``[...]``."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stacked(lanes: Sequence[PyTree]) -> Any:
    """Trees of single lanes, one behind the other: leaves ``[...]`` -> ``[L, ...]``."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)


def with_lanes(shapes: PyTree, num_lanes: int) -> Any:
    """Shapes and dtypes of so many lanes from those of one: ``[...]`` -> ``[L, ...]``."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_lanes, *leaf.shape), leaf.dtype), shapes
    )

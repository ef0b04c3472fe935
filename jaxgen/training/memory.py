"""Estimates of the memory that training takes, as far as the shapes of its arrays tell."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgen.types import PyTree

SHARED_BYTES = 2**30
"""Python, XLA with its compiled programs, and what any environment loads, at most."""
LEAST_BYTES = 2**28
"""The same of small programs, of which a running process has a part already."""


class Memory(NamedTuple):
    """Bytes that a program takes while it trains."""

    shared: int
    """Whatever the number of lanes; `SHARED_BYTES` and what the lanes work on in turn."""
    per_lane: int

    def of(self, num_lanes: int) -> int:
        """Bytes of so many lanes together."""
        return self.shared + num_lanes * self.per_lane

    def least_of(self, num_lanes: int) -> int:
        """Bytes without which so many lanes cannot be trained."""
        return self.of(num_lanes) - min(self.shared, SHARED_BYTES - LEAST_BYTES)

    def lanes_within(self, num_bytes: int) -> int:
        """How many lanes so many bytes hold."""
        return max(0, int(num_bytes - self.shared) // self.per_lane)


def once_per_program(estimate: Callable[[PyTree], Memory]) -> Callable[[PyTree], Memory]:
    """Remember an estimate from lanes by their static fields and the shapes of one of them.

    Tracing for it takes a second, and every batch of a study asks for it.
    """
    known: dict[Any, Memory] = {}

    def remembered(lanes: PyTree) -> Memory:
        leaves, structure = jax.tree.flatten(lanes)
        key = structure, tuple(leaf.shape[1:] for leaf in leaves)
        if key not in known:
            known[key] = estimate(lanes)
        return known[key]

    return remembered


def num_bytes(shapes: PyTree) -> int:
    """Bytes of all arrays, or of what ``jax.eval_shape`` says of them."""
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)
    )  # fmt: skip

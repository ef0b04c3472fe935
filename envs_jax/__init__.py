"""Pure JAX environments and their variation tables, by registry name.

Importing this package does not import jax: the names are listable at once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs_jax.base import Task


def _cartpole(**options: Any) -> "Task":
    from envs_jax.cartpole import CartPoleTask

    return CartPoleTask(**options)


def _minigrid(**options: Any) -> "Task":
    from envs_jax.gridworld import GridTask

    return GridTask(**options)


ENVIRONMENTS: dict[str, Callable[..., "Task"]] = {"cartpole": _cartpole, "minigrid": _minigrid}
"""Constructors of the tasks by registry name; keyword arguments are the task's options."""

UNAVAILABLE: dict[str, str] = {"starpilot": "not available yet"}
"""Registry names that are planned but cannot be made, with the reason."""


def make_task(name: str, **options: Any) -> "Task":
    """Make the task of a registry name, e.g. ``make_task("minigrid", bank_size=512)``.

    Raises ValueError for a name that is unknown or not available.
    """
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name](**options)
    reason = UNAVAILABLE.get(name, "unknown")
    raise ValueError(f"environment {name!r} is {reason}: use one of {', '.join(ENVIRONMENTS)}")

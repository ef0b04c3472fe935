"""Environments and their variation tables, by registry name.

Importing this package does not import jax: the names are listable at once.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from envs_jax.procgen_games import GAMES, installed, missing_remedy

if TYPE_CHECKING:
    from jaxgen.types import HostTask, Task


def _cartpole(**options: Any) -> "Task":
    from envs_jax.cartpole import CartPoleTask

    return CartPoleTask(**options)


def _minigrid(**options: Any) -> "Task":
    from envs_jax.gridworld import GridTask

    return GridTask(**options)


def _procgen(game: str, **options: Any) -> "HostTask":
    from envs_jax.starpilot import ProcgenTask

    return ProcgenTask(game, **options)


ENVIRONMENTS: dict[str, Callable[..., "Task | HostTask"]] = {
    "cartpole": _cartpole,
    "minigrid": _minigrid,
    "starpilot": partial(_procgen, "starpilot"),
}
"""Constructors of the study's tasks by registry name; keyword arguments are the task's options."""

DEFAULT = ("cartpole", "minigrid")
"""Those that need nothing but JAX, and minutes."""

OTHERS: dict[str, Callable[..., "Task | HostTask"]] = {
    game: partial(_procgen, game) for game in GAMES if game not in ENVIRONMENTS
}
"""The other games of procgen, configured as Starpilot is."""


def unavailable() -> dict[str, str]:
    """Registry names that cannot be played here, with what to do about it."""
    if installed():
        return {}
    return dict.fromkeys(("starpilot", *OTHERS), missing_remedy())


@overload
def make_task(name: Literal["cartpole", "minigrid"], **options: Any) -> "Task": ...
@overload
def make_task(name: Literal["starpilot"], **options: Any) -> "HostTask": ...
@overload
def make_task(name: str, **options: Any) -> Any: ...
def make_task(name: str, **options: Any) -> Any:
    """Make the task of a registry name, e.g. ``make_task("minigrid", bank_size=512)``.

    Raises ValueError for a name that is unknown.
    """
    known = ENVIRONMENTS | OTHERS
    if name not in known:
        raise ValueError(
            f"environment {name!r} is unknown: use one of {', '.join(ENVIRONMENTS)}, or of "
            f"procgen's other games {', '.join(OTHERS)}"
        )
    return known[name](**options)

"""Environments and their variation tables, by registry name.

Importing this package registers the environments' cards and imports no JAX: their names are
listable at once.
"""

from typing import TYPE_CHECKING, Any, Literal, overload

from envs_jax import cards
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card
from jaxgen.study.cards.base import resolve

if TYPE_CHECKING:
    from jaxgen.types import HostTask, Task

__all__ = ["cards", "make_task", "unavailable"]


def unavailable() -> dict[str, str]:
    """Registry names that cannot be played here, with what to do about it."""
    missing = {name: card.task.missing() for name, card in ENVIRONMENT_CARDS.items()}
    return {name: remedy for name, remedy in missing.items() if remedy}


@overload
def make_task(name: Literal["cartpole", "minigrid", "pendulum"], **options: Any) -> "Task": ...
@overload
def make_task(name: Literal["starpilot"], **options: Any) -> "HostTask": ...
@overload
def make_task(name: str, **options: Any) -> Any: ...
def make_task(name: str, **options: Any) -> Any:
    """Make the task of a registry name, e.g. ``make_task("minigrid", bank_size=512)``.

    Raises ValueError for a name that is unknown.
    """
    card = environment_card(name)
    return resolve(card.task.make)(**{**card.task.fixed, **options})

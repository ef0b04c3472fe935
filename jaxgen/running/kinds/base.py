"""The record that makes a kind of study."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from jaxgen.results.store import Store
from jaxgen.running.reporter import Lane
from jaxgen.study.product import Group

if TYPE_CHECKING:
    from jaxgen.running.batch import Trainer
    from jaxgen.running.progress import Progress


class Derived(NamedTuple):
    """Words about what was derived from results."""

    lines: list[str]
    """What a study found, for a screen."""
    left_aside: list[str]
    """Files that are damaged, or in the way of others."""


Plan = Collection[tuple[str, int]]
"""(run name, seed) of every run that is expected."""


class Kind(NamedTuple):
    """Functions that make results of trained batches; training is the same for every kind."""

    finish: Callable[["Trainer", "Progress"], None]
    """(batch, its state at the end) -> None: writes the results, and removes the checkpoint last.

    What is there already is not written again, so that a kill at any moment leaves only the rest
    to do.
    """
    lost: Callable[[Store, Group], tuple[Lane, str] | None]
    """(store, group whose runs are done) -> a lane that has to be trained again, and why."""
    derive: Callable[[Store, Plan | None, bool], Derived] | None
    """(store, plan or None, whether to draw) -> writes everything that follows from the results.
    None: the runs are a step of something larger, which says itself what it found."""

    @property
    def as_step(self) -> "Kind":
        """The same runs as a step of something larger."""
        return self._replace(derive=None)

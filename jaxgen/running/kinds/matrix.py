"""The generalisation study: scores of every run, the best model of each cell, the report.

What computes is imported when it is needed: plans and tables need no JAX.
"""

from typing import TYPE_CHECKING

from jaxgen.results.store import Store
from jaxgen.running.kinds.base import Derived, Kind, Plan
from jaxgen.running.reporter import Lane
from jaxgen.study.product import Group

if TYPE_CHECKING:
    from jaxgen.running.batch import Trainer
    from jaxgen.running.progress import Progress


def finish(trainer: "Trainer", state: "Progress") -> None:
    """Evaluate a batch and write its runs, see `jaxgen.running.finish`."""
    from jaxgen.running import finish as finishing

    finishing.finish(trainer, state)


def lost(store: Store, group: Group) -> tuple[Lane, str] | None:
    """A lane whose run is the best and whose agent is not kept, see `jaxgen.results.best`."""
    from jaxgen.results.best import lost_best

    return lost_best(store, group)


def derive(store: Store, plan: Plan | None, plots: bool) -> Derived:
    """Write tables, summaries and, if asked for, figures; say in short what was found."""
    from jaxgen.report.brief import brief
    from jaxgen.report.outputs import write_outputs

    records, left_aside = write_outputs(store, plan, plots=plots)
    return Derived(brief(records, plan), left_aside)


KIND = Kind(finish, lost, derive)

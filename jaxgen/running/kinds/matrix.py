"""The generalisation study: scores of every run, the best model of each cell, the report."""

from jaxgen.results.store import Store
from jaxgen.running.best_model import lost_best
from jaxgen.running.finish import finish
from jaxgen.running.kinds.base import Kind, Plan


def derive(store: Store, plan: Plan | None, plots: bool) -> list[str]:
    """Write tables, summaries and, if asked for, figures; returns the damaged files in words."""
    # Imported when it is needed: figures take a second.
    from jaxgen.report.outputs import write_outputs

    return write_outputs(store, plan, plots=plots)[1]


KIND = Kind(finish, lost_best, derive)

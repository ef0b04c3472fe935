"""Parts of a study that can be worked on independently, and the file that lists them.

Needs neither JAX nor a device, so that the state of a folder can be told at once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxgen.results.lock import StoreError
from jaxgen.results.store import Store
from jaxgen.study.product import Study
from jaxgen.study.spec import RunSpec
from jaxgen.system.files import content_hash, load_json

PLAN = "plan.json"
CLAIMS = "cluster/claims"
LOGS = "cluster/logs"
JOBS = "cluster/jobs"
"""Names below a results folder; jobs are submitit's own files."""

RunKey = tuple[str, int]
"""Run name and seed."""


class Unit(NamedTuple):
    """Lanes of one group, for one worker at a time."""

    name: str
    group: int
    """Its position in the study."""
    lanes: list[RunKey]

    def lanes_of(self, study: Study) -> list[tuple[RunSpec, int]]:
        """Its (arm, seed) pairs."""
        known = {(spec.name, seed): (spec, seed) for spec, seed in study.groups[self.group].lanes}
        return [known[lane] for lane in self.lanes]


class Plan(NamedTuple):
    """The runs and units that were asked for last in a results folder."""

    runs: list[RunKey]
    """Every row of the study, aliases too."""
    units: list[Unit]
    """What was left of it for workers; none where there were no workers."""


def expected_runs(study: Study) -> list[RunKey]:
    """Every row of a study, aliases too."""
    return [
        (spec.name, seed)
        for group in study.groups
        for spec in (*group.specs, *group.aliases)
        for seed in group.seeds
    ]


def plan_digest(study: Study) -> str:
    """Eight digits that identify the rows of a study, with all that decides their results."""
    return content_hash(expected_runs(study))


def write_plan(store: Store, study: Study, units: Sequence[Unit] = ()) -> None:
    """Write down the runs of a study, and the units that are left of it for workers."""
    plan = Plan(expected_runs(study), list(units))
    store.write_json(PLAN, {"runs": plan.runs, "units": [unit._asdict() for unit in units]})


def read_plan(store: Store) -> Plan | None:
    """Read what `write_plan` wrote last; None: nothing."""
    if not store.path(PLAN).exists():
        return None
    content = load_json(store.path(PLAN))
    units = [Unit(unit["name"], unit["group"], _runs(unit["lanes"])) for unit in content["units"]]
    return Plan(_runs(content["runs"]), units)


def read_units(store: Store, study: Study) -> list[Unit]:
    """The units of a study's plan; StoreError if the plan in the folder is of another study."""
    plan = read_plan(store)
    if plan is None or content_hash(plan.runs) != plan_digest(study):
        raise StoreError(
            f"{store.root} is in use for another study; wait until it ends, or give another folder"
        )
    return plan.units


def _runs(content: Sequence[Any]) -> list[RunKey]:
    return [(name, seed) for name, seed in content]

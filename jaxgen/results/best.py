"""The best models of an algorithm on an environment: which runs they are of, and copies of them.

A convenience, never a row of results. ``best`` is chosen by what training could know, ``robust`` by
the shifted levels themselves, so that its scores flatter it.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxgen.results.read import read_results
from jaxgen.results.records import HEADLINE_MODE, Record, check_records, mode_of
from jaxgen.results.store import Store
from jaxgen.study.product import Group
from jaxgen.study.spec import RunSpec
from jaxgen.system import archives, checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json, write_bytes

FOLDER = "best_models"


class Choice(NamedTuple):
    """A rule by which one of several runs is chosen."""

    chosen_by: str
    """The rule in words."""
    key: Callable[[Record], tuple[float, ...]]
    """The run with the highest is chosen; of equals that of the first technique, then seed."""


def _return_at_zero(record: Record, mode: str) -> float:
    index = record.result["evaluation"]["levels"].index(0.0)
    return mode_of(record, mode)["mean"][index]


CHOICES = {
    "best": Choice(
        "mean greedy return of the final policy at level 0, then by the sampled one",
        lambda r: (_return_at_zero(r, "greedy"), _return_at_zero(r, "sampled")),
    ),
    "robust": Choice(
        "A, which looks at the shifted levels: its scores flatter it",
        lambda r: (r.result["scores"][HEADLINE_MODE]["A"],),
    ),
}


def best_scores(records: Iterable[Record]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(algorithm, environment, choice) -> the run that is kept.

    Full runs go before quick ones. Diverged runs and aliases are no candidates.
    """
    candidates: dict[tuple[str, str], list[Record]] = {}
    for record in check_records(records):
        if not (record.diverged or record.alias_of):
            candidates.setdefault((record.algorithm, record.environment), []).append(record)
    # max keeps the first of equals, and the records are in canonical order.
    return {
        (*cell, name): _best_entry(
            max(group, key=lambda r: (not r.quick, *choice.key(r))), choice.chosen_by, len(group)
        )
        for cell, group in candidates.items()
        for name, choice in CHOICES.items()
    }


def best_runs(
    store: Store, algorithm: str, environment: str
) -> dict[str, tuple[str, int]]:
    """Choice -> the (run name, seed) that it makes of an algorithm on an environment."""
    best = best_scores(read_results(store, f"{algorithm}_{environment}_"))
    return {
        cell[2]: (entry["run"], entry["seed"])
        for cell, entry in best.items() if cell[:2] == (algorithm, environment)
    }  # fmt: skip


def lost_best(store: Store, group: Group) -> tuple[tuple[RunSpec, int], str] | None:
    """The lane of a group whose finished run is the best and whose agent is not kept, and why."""
    best = best_runs(store, group.algorithm, group.environment).get("best")
    lanes = {(spec.name, seed): (spec, seed) for spec, seed in group.lanes}
    if best is None or best not in lanes:
        return None
    try:
        store.check_agent(*best)
    except DamagedFile as damage:
        cell = f"{group.algorithm}_{group.environment}"
        if _kept_as_folder(store, f"{cell}_best", best):
            return None
        return lanes[best], f"the best agent of {cell} is missing ({damage})"
    return None


def copy_best(store: Store, records: Iterable[Record]) -> list[str]:
    """Copy the agents of the best runs to ``best_models``, each with what is said of its run.

    Args:
      store: where they are; the caller holds its lock.
      records: all that it holds.

    Returns:
      In words, what else lies where a copy belongs; it stays.
    """
    best, in_the_way = {}, []
    for cell, entry in best_scores(records).items():
        name, run = "_".join(cell), (entry["run"], entry["seed"])
        try:
            _copy(store, name, entry)
        except BadInput as error:
            in_the_way.append(str(error))
        except DamagedFile:
            # A run that was not kept; where it must be, the next start trains it again.
            if not _kept_as_folder(store, name, run):
                continue
        best[name.removesuffix("_best")] = entry
    if best:
        store.write_json(f"{FOLDER}/best_scores.json", best)
    return in_the_way


def _best_entry(record: Record, chosen_by: str, num_candidates: int) -> dict[str, Any]:
    return {
        "run": record.name,
        "experiment": record.experiment,
        "technique": record.technique,
        **({"arm": record.arm} if record.arm != record.technique else {}),
        "seed": record.seed,
        "quick": record.quick,
        "chosen_by": chosen_by,
        "num_candidates": num_candidates,
        "return_at_zero": _return_at_zero(record, HEADLINE_MODE),
        "levels": list(record.result["evaluation"]["levels"]),
        "returns": list(mode_of(record, HEADLINE_MODE)["mean"]),
        "scores": dict(record.result["scores"][HEADLINE_MODE]),
    }


def _copy(store: Store, name: str, entry: dict[str, Any]) -> None:
    agent = store.check_agent(entry["run"], entry["seed"]).read_bytes()
    path = store.path(f"{FOLDER}/{name}.npz")
    archives.check_replaceable(path, archives.AGENT)
    # Last: it says which run the model is of.
    write_bytes(path, agent)
    store.write_json(f"{FOLDER}/{name}_scores.json", entry)


def _kept_as_folder(store: Store, name: str, run: tuple[str, int]) -> bool:
    """Whether the agent of a run is there as an older version kept it, beside the runs alone."""
    try:
        known = load_json(store.path(f"{FOLDER}/{name}_scores.json"))
        checkpoint.read_meta(store.path(f"{FOLDER}/{name}"))
    except (DamagedFile, checkpoint.DamagedCheckpoint):
        return False
    return (known.get("run"), known.get("seed")) == run

"""The best model of an (algorithm, environment): kept, lost and found again."""

from typing import Any

import numpy as np

from jaxgen.evaluation.agent import Agent, save_agent
from jaxgen.results.best import best_scores
from jaxgen.results.read import read_results
from jaxgen.results.store import Store
from jaxgen.running.reporter import Lane, Reporter
from jaxgen.running.session import Batch
from jaxgen.study.product import Group
from jaxgen.system import checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json
from jaxgen.types import HostTask, Task


def keep_best(
    store: Store, reporter: Reporter, batch: Batch, params: np.ndarray, task: Task | HostTask
) -> None:
    """Save the model of the best run of an (algorithm, environment), if this batch holds it.

    Args:
      store: where the runs' results are.
      reporter: is told what was kept.
      batch: the lanes whose parameters are at hand.
      params: float32 ``[L, D]``.
      task: gives the specification that an agent needs.
    """
    # Of several workers the one that looks last sees the results of all.
    with store.section("best_models"):
        try:
            _keep_best(store, reporter, batch, params, task)
        except BadInput as error:
            # Somebody has put something else in its place; that must not cost the tables.
            reporter.note(f"the best model was not saved: {error}")


def _keep_best(
    store: Store, reporter: Reporter, batch: Batch, params: np.ndarray, task: Task | HostTask
) -> None:
    spec = batch.lanes[0][0]
    best = _best(store, spec.algorithm, spec.environment)
    if best is None:
        return
    indices = {(lane.name, seed): index for index, (lane, seed) in enumerate(batch.lanes)}
    index = indices.get((best["run"], best["seed"]))
    model, scores = _best_names(spec.algorithm, spec.environment)
    if index is not None:
        lane, seed = batch.lanes[index]
        seen = task.spec.stacked(lane.config.num_frames)
        save_agent(store.path(model), Agent.of(lane, seen, params[index], seed))
        kind = f"{spec.algorithm} {spec.environment}"
        reporter.note(f"best model of {kind}: {lane.arm}, seed {seed}")
    elif _kept_run(store, scores) != (best["run"], best["seed"]):
        return
    # Last: it says which run the model is of.
    store.write_json(scores, best)


def lost_best(store: Store, group: Group) -> tuple[Lane, str] | None:
    """The lane of a group whose finished run is the best and whose model is not kept, and why."""
    best = _best(store, group.algorithm, group.environment)
    lanes = {(spec.name, seed): (spec, seed) for spec, seed in group.lanes}
    if best is None or (best["run"], best["seed"]) not in lanes:
        return None
    lane = lanes[best["run"], best["seed"]]
    model, scores = _best_names(group.algorithm, group.environment)
    missing = f"the best model of {group.algorithm} {group.environment} is missing"
    if _kept_run(store, scores) != (best["run"], best["seed"]):
        return lane, f"{missing} (it was not saved)"
    try:
        checkpoint.read_meta(store.path(model))
    except checkpoint.DamagedCheckpoint as damage:
        return lane, f"{missing} (damaged: {damage})"
    return None


def _best(store: Store, algorithm: str, environment: str) -> dict[str, Any] | None:
    records = read_results(store, f"{algorithm}_{environment}_")
    return best_scores(records).get((algorithm, environment))


def _best_names(algorithm: str, environment: str) -> tuple[str, str]:
    name = f"best_models/{algorithm}_{environment}_best"
    return name, f"{name}_scores.json"


def _kept_run(store: Store, scores: str) -> tuple[Any, Any] | None:
    try:
        entry = load_json(store.path(scores))
    except DamagedFile:
        return None
    return entry.get("run"), entry.get("seed")

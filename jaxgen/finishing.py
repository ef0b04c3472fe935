"""From a trained batch to the files of its runs and to the best model."""

from typing import Any

import numpy as np

from jaxgen import checkpoint, platform
from jaxgen.agent import Agent, save_agent
from jaxgen.analysis import best_scores
from jaxgen.batch_training import Trainer, timed
from jaxgen.evaluation.episodes import MODES
from jaxgen.evaluation.host_episodes import HostSuite
from jaxgen.outputs import read_results
from jaxgen.progress import Progress
from jaxgen.records import EPISODES
from jaxgen.results import References, make_result, total_decay, trim_history
from jaxgen.session import Batch, History, Lane, Reporter
from jaxgen.store import DamagedFile, Store, load_json
from jaxgen.study import Group
from jaxgen.types import HostTask, Task


def finish(trainer: Trainer, state: Progress) -> None:
    """Evaluate the final policies, write the runs, keep the best model, drop the checkpoint.

    What is done already is not written again, so that a kill at any moment leaves only the
    rest to do. The order matters: the checkpoint goes last.
    """
    session, batch, program = trainer.session, trainer.batch, trainer.program
    with timed(state.seconds, "evaluate"):
        params = program.params(trainer.lanes, state.carry)
        suite = trainer.references.suite
        returns = trainer.real(program.evaluate(trainer.lanes, params, suite))
    params = trainer.real(params)
    provenance = {
        "program": batch.label,
        "lanes": len(batch.lanes),
        "seconds": state.seconds,
        "platform": platform.describe(),
    }
    for index in range(len(batch.lanes)):
        _write_run(trainer, state, index, params[index], returns[index], provenance)
    keep_best(session.store, session.reporter, batch, params, trainer.shared.task)
    checkpoint.remove(batch.checkpoint_path(session.store))


def _write_run(
    trainer: Trainer, state: Progress, index: int, params: np.ndarray, returns: np.ndarray,
    provenance: dict[str, Any],
) -> None:
    store, (spec, seed) = trainer.session.store, trainer.batch.lanes[index]
    if store.is_done(spec.name, seed):
        return
    history = trim_history({name: values[index] for name, values in state.history.items()})
    curve = _distinct_points({name: values[index] for name, values in state.curve.items()})
    references, technique = trainer.references, spec.technique_values
    why = why_diverged(params, history)
    result = make_result(
        spec, seed, returns, references, history | curve, why is not None,
        None if references.prints is None else state.seen[index],
    )
    updates = result["training"]["updates"] - result["training"]["skipped_updates"]
    shrink = None if why else total_decay(spec.config, technique.weight_decay, updates)
    result["training"]["weight_shrink"] = shrink
    played = {f"{EPISODES}{name}": values for name, values in state.episodes[index].items()}
    episodes = played | evaluation_episodes(references, returns)
    store.write_result(spec.name, seed, result, history | curve | episodes, provenance)
    if why:
        trainer.session.reporter.note(f"{spec.experiment} seed {seed} diverged: {why}")


def evaluation_episodes(references: References, returns: np.ndarray) -> History:
    """What each evaluation episode played and returned ``[K x E]``, where instances have numbers.

    Args:
      references: of the suite.
      returns: ``[modes, K, E]``.
    """
    if not isinstance(references.suite, HostSuite):
        return {}
    seeds = {f"{EPISODES}evaluation_level_seed": references.suite.episodes.level_seeds.ravel()}
    by_mode = zip(MODES, returns, strict=True)
    return seeds | {f"{EPISODES}evaluation_{mode}": own.ravel() for mode, own in by_mode}


def why_diverged(params: np.ndarray, history: History) -> str | None:
    """Say what is not finite of a run, its parameters ``[D]`` or its metrics ``[I]``; None: fine.

    A population that ranks its members by returns that are NaN keeps finite parameters.
    """
    if not np.isfinite(params).all():
        return "its parameters are not finite"
    if np.isnan(history["loss"][history["updates"] > 0]).any():
        return "its loss is not a number"
    return None


def _distinct_points(curve: History) -> History:
    """Leave out points at which a resting lane repeats itself."""
    new = np.diff(curve["eval_env_steps"], prepend=-1) > 0
    return {name: values[new] for name, values in curve.items()}


# The best model of an (algorithm, environment)


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
        _keep_best(store, reporter, batch, params, task)


def _keep_best(
    store: Store, reporter: Reporter, batch: Batch, params: np.ndarray, task: Task | HostTask
) -> None:
    spec = batch.lanes[0][0]
    best = _best(store, spec.algorithm, spec.environment)
    if best is None:
        return
    own = {(lane.name, seed): index for index, (lane, seed) in enumerate(batch.lanes)}
    index = own.get((best["run"], best["seed"]))
    model, scores = _best_names(spec.algorithm, spec.environment)
    if index is not None:
        lane, seed = batch.lanes[index]
        seen = task.spec.stacked(lane.config.num_frames)
        save_agent(store.path(model), Agent.of(lane, seen, params[index], seed))
        kind = f"{spec.algorithm} {spec.environment}"
        reporter.note(f"best model of {kind}: {lane.technique}, seed {seed}")
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
    if _kept_run(store, scores) != (best["run"], best["seed"]):
        return lane, "it was not saved"
    try:
        checkpoint.read_meta(store.path(model))
    except checkpoint.DamagedCheckpoint as damage:
        return lane, f"damaged: {damage}"
    return None


def _best(store: Store, algorithm: str, environment: str) -> dict[str, Any] | None:
    records = read_results(store, f"{algorithm}_{environment}_")
    return best_scores(records).get((algorithm, environment))


def _best_names(algorithm: str, environment: str) -> tuple[str, str]:
    name = f"best_models/{algorithm}_{environment}_best"
    return name, f"{name}_scores.json"


def _kept_run(store: Store, scores: str) -> tuple[Any, Any] | None:
    try:
        kept = load_json(store.path(scores))
    except DamagedFile:
        return None
    return kept.get("run"), kept.get("seed")

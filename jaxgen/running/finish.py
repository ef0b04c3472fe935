"""The end of a batch: the files of its runs, with the agents that were trained."""

from typing import Any

import numpy as np

from jaxgen.evaluation.references import References
from jaxgen.results.best import best_runs
from jaxgen.results.code import code_of
from jaxgen.results.records import EPISODES
from jaxgen.results.result import Trained, make_result, trim_history
from jaxgen.running.batch import Trainer, Vectors, timed
from jaxgen.running.progress import Progress
from jaxgen.running.reporter import History
from jaxgen.study.spec import MODES
from jaxgen.system import checkpoint, platform
from jaxgen.system.files import DamagedFile


def finish(trainer: Trainer, state: Progress) -> None:
    """Evaluate the final policies, write the runs, drop the checkpoint.

    What is done already is not written again, so that a kill at any moment leaves only the
    rest to do. The order matters: the checkpoint goes last.
    """
    session, batch, program = trainer.session, trainer.batch, trainer.program
    session.reporter.stage(f"{batch.label}: trained, evaluating")
    with timed(state.seconds, "evaluate"):
        params = program.learner.params(trainer.lanes, state.carry)
        episodes = trainer.references.suite.episodes
        played = program.evaluate(trainer.lanes, params, episodes)
        returns = trainer.real(played.returns)
    vectors = trainer.vectors(state.carry)
    provenance = {
        "program": batch.label,
        "lanes": len(batch.lanes),
        "seconds": state.seconds,
        "platform": platform.describe(),
        "code": code_of(batch.lanes[0][0]),
    }
    for index in range(len(batch.lanes)):
        _write_run(trainer, state, index, vectors, returns[index], provenance)
    _keep_best(trainer, vectors)
    checkpoint.remove(batch.checkpoint_path(session.store))


def _write_run(
    trainer: Trainer, state: Progress, index: int, vectors: Vectors, returns: np.ndarray,
    provenance: dict[str, Any],
) -> None:
    store, (spec, seed) = trainer.session.store, trainer.batch.lanes[index]
    if store.is_done(spec.name, seed):
        return
    history = trim_history({name: values[index] for name, values in state.history.items()})
    curve = _distinct_points({name: values[index] for name, values in state.curve.items()})
    references = trainer.references
    seen = None if references.prints is None else state.seen[index]
    trained = Trained(spec, seed, vectors.params[index], returns, history | curve, seen)
    played = {f"{EPISODES}{name}": values for name, values in state.episodes[index].items()}
    episodes = played | evaluation_episodes(references, returns)
    result = make_result(trained, references)
    agent = None
    if trainer.session.options.keep_agents:
        agent = trainer.pack_agent(index, vectors, trained.fault)
    store.write_result(spec.name, seed, result, history | curve | episodes, provenance, agent)
    if trained.fault:
        trainer.session.reporter.note(f"{spec.experiment} seed {seed} diverged: {trained.fault}")


def _keep_best(trainer: Trainer, vectors: Vectors) -> None:
    """Write the agents of the best runs, if these lanes hold them and they are not there."""
    store, spec = trainer.session.store, trainer.batch.lanes[0][0]
    indices = {(lane.name, seed): index for index, (lane, seed) in enumerate(trainer.batch.lanes)}
    for run in best_runs(store, spec.algorithm, spec.environment).values():
        if run in indices:
            try:
                store.check_agent(*run)
            except DamagedFile:
                index = indices[run]
                store.write_agent(*run, trainer.pack_agent(index, vectors))


def evaluation_episodes(references: References, returns: np.ndarray) -> History:
    """The level and the return of each evaluation episode ``[K x E]``, where levels have numbers.

    Args:
      references: of the suite.
      returns: ``[modes, K, E]``.
    """
    if references.suite.level_seeds is None:
        return {}
    seeds = {f"{EPISODES}evaluation_level_seed": references.suite.level_seeds.ravel()}
    by_mode = zip(MODES, returns, strict=True)
    return seeds | {f"{EPISODES}evaluation_{mode}": values.ravel() for mode, values in by_mode}


def _distinct_points(curve: History) -> History:
    """Leave out points at which a resting lane repeats itself."""
    new = np.diff(curve["eval_env_steps"], prepend=-1) > 0
    return {name: values[new] for name, values in curve.items()}

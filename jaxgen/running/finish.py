"""The end of a batch: the files of its runs, and the best model."""

from typing import Any

import numpy as np

from jaxgen.evaluation.references import References
from jaxgen.results.code import code_of
from jaxgen.results.records import EPISODES
from jaxgen.results.result import Trained, make_result, trim_history
from jaxgen.running.batch import Trainer, timed
from jaxgen.running.best_model import keep_best
from jaxgen.running.progress import Progress
from jaxgen.running.reporter import History
from jaxgen.study.spec import MODES
from jaxgen.system import checkpoint, platform


def finish(trainer: Trainer, state: Progress) -> None:
    """Evaluate the final policies, write the runs, keep the best model, drop the checkpoint.

    What is done already is not written again, so that a kill at any moment leaves only the
    rest to do. The order matters: the checkpoint goes last.
    """
    session, batch, program = trainer.session, trainer.batch, trainer.program
    with timed(state.seconds, "evaluate"):
        params = program.learner.params(trainer.lanes, state.carry)
        episodes = trainer.references.suite.episodes
        returns = trainer.real(program.evaluate(trainer.lanes, params, episodes))
    params = trainer.real(params)
    provenance = {
        "program": batch.label,
        "lanes": len(batch.lanes),
        "seconds": state.seconds,
        "platform": platform.describe(),
        "code": code_of(batch.lanes[0][0]),
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
    references = trainer.references
    seen = None if references.prints is None else state.seen[index]
    trained = Trained(spec, seed, params, returns, history | curve, seen)
    played = {f"{EPISODES}{name}": values for name, values in state.episodes[index].items()}
    episodes = played | evaluation_episodes(references, returns)
    result = make_result(trained, references)
    if trainer.session.options.keep_params:
        store.write_params(spec.name, seed, params)
    store.write_result(spec.name, seed, result, history | curve | episodes, provenance)
    if trained.fault:
        trainer.session.reporter.note(f"{spec.experiment} seed {seed} diverged: {trained.fault}")


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

"""Run a study: groups to compiled programs, chunks, checkpoints, and results in the store.

Truth is the files. A run with a valid result.json is done and is never trained
again; a group in flight has a checkpoint, named by its list of lanes, from
which the next start goes on. What was trained does not depend on where it was
interrupted, on the chunk length or on the number of devices.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxgen import checkpoint, platform
from jaxgen.agent import Agent, save_agent
from jaxgen.algorithms import ALGORITHMS
from jaxgen.analysis import best_scores
from jaxgen.config import Config
from jaxgen.evaluation.episodes import Suite, make_suite
from jaxgen.results import (
    References,
    make_references,
    make_result,
    total_decay,
    trim_history,
)
from jaxgen.outputs import read_records
from jaxgen.store import DONE, MISSING, Store, content_hash
from jaxgen.study import Group, RunSpec, Study
from jaxgen.training import (
    Carry,
    Lanes,
    Program,
    Segment,
    evaluation_key,
    make_program,
    segments,
    stack_lanes,
)
from jaxgen.types import PyTree, Task

History = dict[str, np.ndarray]
"""Metrics by name, ``[L, I]``; learning-curve points ``[L, C]``."""
Lane = tuple[RunSpec, int]


class Interrupted(Exception):
    """A stop was asked for between chunks; the checkpoint is on the disk."""


class Reporter(Protocol):
    """Who is told what happens; a command line prints it."""

    def note(self, text: str) -> None:
        """Something that a person should know."""
        ...

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        """How far the lanes of a program are, in env steps of all lanes, and steps/s."""
        ...

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        """A point of the learning curves was reached."""
        ...


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a result."""

    vmap_seeds: bool = True
    max_lanes: int = 64
    """Lanes in one program; more are trained in turn."""
    chunks_per_point: int = 4
    """Calls of the compiled program between two points of a learning curve."""
    checkpoint_seconds: float = 30.0
    fresh: bool = False
    """Discard what the store holds of the study's runs."""
    should_stop: Callable[[], bool] = lambda: False


class Batch(NamedTuple):
    """Lanes that are trained together."""

    lanes: list[Lane]

    @property
    def identity(self) -> list[list[Any]]:
        """JSON-ready (run name, seed) pairs."""
        return [[spec.name, seed] for spec, seed in self.lanes]

    @property
    def label(self) -> str:
        """Algorithm and environment for a reader."""
        return f"{self.lanes[0][0].algorithm} {self.lanes[0][0].environment}"


class Session(NamedTuple):
    """What the groups of a study share while they run."""

    store: Store
    make_task: Callable[..., Task]
    options: Options
    reporter: Reporter
    references: dict[str, References]
    """By environment and evaluation: measured once."""


def run_study(
    study: Study,
    store: Store,
    make_task: Callable[..., Task],
    reporter: Reporter,
    options: Options = Options(),
) -> None:
    """Train and evaluate what the store lacks of a study.

    Args:
      study: what to run.
      store: where results lie; the caller holds its lock.
      make_task: (registry name, **options) -> Task.
      reporter: is told of progress.
      options: how to run.

    Raises:
      Interrupted: ``options.should_stop`` said so; nothing is lost.
    """
    session = Session(store, make_task, options, reporter, {})
    for group in study.groups:
        _run_group(session, group)


def checkpoint_path(store: Store, batch: Batch) -> Path:
    """The folder of the in-flight state of a batch."""
    spec = batch.lanes[0][0]
    name = f"{spec.algorithm}_{spec.environment}-{content_hash(batch.identity)}"
    return store.path(f"checkpoints/{name}")


def _run_group(session: Session, group: Group) -> None:
    store = session.store
    for spec in (*group.specs, *group.aliases):
        damage = store.write_spec(spec.name, spec.to_dict())
        if damage is not None:
            session.reporter.note(f"damaged, written again: {damage}")
    if session.options.fresh:
        for spec, seed in group.lanes:
            store.discard(spec.name, seed)
    pending = [lane for lane in group.lanes if not _is_done(session, *lane)]
    for batch in _batches(session, group, pending):
        _run_batch(session, batch)


def _is_done(session: Session, spec: RunSpec, seed: int) -> bool:
    status = session.store.check_run(spec.name, seed)
    if status not in (DONE, MISSING):
        session.reporter.note(f"{status}; {spec.experiment} seed {seed} is computed again")
    return status == DONE


def _batches(session: Session, group: Group, pending: list[Lane]) -> list[Batch]:
    """Batches in flight first, as they were; then everything else that is pending."""
    in_flight = _in_flight(session, group, pending)
    taken = {(spec.name, seed) for batch in in_flight for spec, seed in batch.lanes}
    rest = [(spec, seed) for spec, seed in pending if (spec.name, seed) not in taken]
    if session.options.vmap_seeds:
        parts = [rest]
    else:
        parts = [[lane for lane in rest if lane[1] == seed] for seed in group.seeds]
    width = session.options.max_lanes
    new = [Batch(part[i : i + width]) for part in parts for i in range(0, len(part), width)]
    return in_flight + new


def _in_flight(session: Session, group: Group, pending: list[Lane]) -> list[Batch]:
    by_name = {(spec.name, seed): (spec, seed) for spec, seed in group.lanes}
    open_names = {(spec.name, seed) for spec, seed in pending}
    folder = session.store.root / "checkpoints"
    batches = []
    for path in checkpoint.saved_in(folder):
        if not path.name.startswith(f"{group.algorithm}_{group.environment}-"):
            continue
        if session.options.fresh:
            checkpoint.remove(path)
            continue
        try:
            identity = [tuple(lane) for lane in checkpoint.read_meta(path)["lanes"]]
        except checkpoint.DamagedCheckpoint as damage:
            session.reporter.note(f"damaged checkpoint removed, its work is done again: {damage}")
            checkpoint.remove(path)
            continue
        if set(identity) <= set(by_name):
            if set(identity) & open_names:
                batches.append(Batch([by_name[lane] for lane in identity]))
            else:
                _keep_best_of(session, Batch([by_name[lane] for lane in identity]), path)
    return batches


class _Progress(NamedTuple):
    """Where the training of a batch stands; arrays without padded lanes."""

    carry: Carry
    iteration: int
    history: History
    curve: History
    seen: np.ndarray
    """Evaluation instances that occurred in training, bool ``[L, K, E]`` (E = 0: none generated)."""


class _Trainer(NamedTuple):
    """A batch with everything that is compiled for it."""

    session: Session
    batch: Batch
    task: Task
    program: Program
    lanes: Lanes
    """Padded to a multiple of the devices."""
    references: References
    curve_suite: Suite
    seconds: dict[str, float]

    @property
    def config(self) -> Config:
        """The configuration that all lanes share."""
        return self.batch.lanes[0][0].config


def _run_batch(session: Session, batch: Batch) -> None:
    start = time.perf_counter()
    trainer = _make_trainer(session, batch)
    progress = _train(trainer)
    _finish(trainer, progress)
    seconds = time.perf_counter() - start
    session.reporter.note(f"{batch.label}: {len(batch.lanes)} runs done in {seconds:.0f} s")


def _make_trainer(session: Session, batch: Batch) -> _Trainer:
    spec = batch.lanes[0][0]
    task = session.make_task(spec.environment, **spec.task_options)
    chunk = max(1, -(-spec.config.curve_iterations // session.options.chunks_per_point))
    program = make_program(
        task, ALGORITHMS[spec.base], study_seed=spec.study_seed, chunk=chunk
    )
    padding = -len(batch.lanes) % program.num_devices
    padded = batch.lanes + batch.lanes[-1:] * padding
    lanes = stack_lanes(
        [(spec.config, spec.technique_values) for spec, _ in padded], [seed for _, seed in padded]
    )
    curve_key = evaluation_key(spec.study_seed, purpose=1)
    curve_suite = make_suite(task, curve_key, (0.0,), spec.evaluation.curve_episodes)
    seconds = dict.fromkeys(("compile", "train", "evaluate"), 0.0)
    references = _references(session, spec, task)
    return _Trainer(session, batch, task, program, lanes, references, curve_suite, seconds)


def _references(session: Session, spec: RunSpec, task: Task) -> References:
    asked = spec.to_dict()
    key = content_hash([asked[k] for k in ("environment", "task_options", "evaluation", "study_seed")])
    if key not in session.references:
        suite_key = evaluation_key(spec.study_seed)
        session.references[key] = make_references(task, spec.evaluation, suite_key)
    return session.references[key]


def _train(trainer: _Trainer) -> _Progress:
    """Train from the checkpoint, if there is one, to the end, and leave a checkpoint there."""
    session, config, task = trainer.session, trainer.config, trainer.task
    progress, content, compiled = _restore(trainer), None, None
    clock = _Clock(_total_steps(progress))
    if _finished(config, progress):
        return progress
    for segment in segments(config, task.refresh_steps, trainer.program.chunk, progress.iteration):
        if content is None or segment.fresh_content:
            content = trainer.program.content(trainer.lanes, np.int32(segment.epoch))  # pyright: ignore
            progress = _note_seen(trainer, progress, content)
        if compiled is None:
            compiled = _compile(trainer, progress.carry, content)
            clock.start()
        progress = _advance(trainer, compiled, progress, content, segment)
        _report(trainer, progress, clock)
        finished = _finished(config, progress)
        if segment.curve_point or finished:
            progress = _curve_point(trainer, progress)
        stopping = session.options.should_stop()
        if stopping or finished or clock.checkpoint_due(session.options.checkpoint_seconds):
            _save(trainer, progress)
        if finished:
            break
        if stopping:
            raise Interrupted(f"stopped at iteration {progress.iteration} of {trainer.batch.label}")
    return progress


class _Clock:
    """When training began, and when it was saved last."""

    def __init__(self, env_steps: float):
        self.env_steps = env_steps
        self.start()

    def start(self) -> None:
        self.began = self.saved = time.monotonic()

    def rate(self, env_steps: float) -> float:
        return (env_steps - self.env_steps) / max(time.monotonic() - self.began, 1e-9)

    def checkpoint_due(self, seconds: float) -> bool:
        due = time.monotonic() - self.saved >= seconds
        if due:
            self.saved = time.monotonic()
        return due


def _finished(config: Config, progress: _Progress) -> bool:
    if progress.iteration >= config.num_iterations:
        return True
    if "active" not in progress.history:
        return False
    return bool((progress.history["env_steps"][:, -1] >= config.total_steps).all())


def _report(trainer: _Trainer, progress: _Progress, clock: _Clock) -> None:
    total, done = trainer.config.total_steps * len(trainer.batch.lanes), _total_steps(progress)
    trainer.session.reporter.progress(trainer.batch.label, done, total, clock.rate(done))


def _total_steps(progress: _Progress) -> float:
    steps = progress.history.get("env_steps")
    return 0.0 if steps is None else float(steps[:, -1].sum())


def _note_seen(trainer: _Trainer, progress: _Progress, content: PyTree) -> _Progress:
    if trainer.references.prints is None:
        return progress
    seen = trainer.program.overlap(trainer.lanes, content, trainer.references.prints)
    return progress._replace(seen=progress.seen | _real(trainer, seen))


def _compile(trainer: _Trainer, carry: Carry, content: PyTree) -> Callable:
    began = time.perf_counter()
    one = np.int32(0)
    lowered = trainer.program.train.lower(trainer.lanes, carry, content, one, one)  # pyright: ignore
    compiled = lowered.compile()
    trainer.seconds["compile"] += time.perf_counter() - began
    return compiled


def _advance(
    trainer: _Trainer, compiled: Callable, progress: _Progress, content: PyTree, segment: Segment
) -> _Progress:
    began = time.perf_counter()
    start, stop = np.int32(segment.start), np.int32(segment.stop)
    carry, metrics = compiled(trainer.lanes, progress.carry, content, start, stop)
    new = {name: _real(trainer, values)[:, : stop - start] for name, values in metrics.items()}
    trainer.seconds["train"] += time.perf_counter() - began
    return progress._replace(carry=carry, iteration=segment.stop, history=_append(progress.history, new))


def _curve_point(trainer: _Trainer, progress: _Progress) -> _Progress:
    """Evaluate the policies at level 0 and tell the reporter."""
    began = time.perf_counter()
    params = trainer.program.params(trainer.lanes, progress.carry)
    returns = _real(trainer, trainer.program.evaluate(trainer.lanes, params, trainer.curve_suite))
    point = {
        "eval_env_steps": progress.history["env_steps"][:, -1:],
        "eval_return": returns[:, 0].mean((1, 2), dtype=np.float64)[:, None].astype(np.float32),
    }
    trainer.seconds["evaluate"] += time.perf_counter() - began
    progress = progress._replace(curve=_append(progress.curve, point))
    history = progress.history | progress.curve
    trainer.session.reporter.curve(trainer.batch.label, trainer.batch.lanes, history)
    return progress


def _real(trainer: _Trainer, values: Any) -> np.ndarray:
    """To the host, without padded lanes."""
    return np.asarray(values)[: len(trainer.batch.lanes)]


def _append(history: History, new: History) -> History:
    return {
        name: np.concatenate([history[name], values], axis=1) if name in history else values
        for name, values in new.items()
    }


# Checkpoints


def _save(trainer: _Trainer, progress: _Progress) -> None:
    num_lanes = len(trainer.batch.lanes)
    tree = {
        "carry": jax.tree.map(lambda leaf: np.asarray(leaf)[:num_lanes], progress.carry),
        "history": progress.history,
        "curve": progress.curve,
        "seen": progress.seen,
    }
    meta = {"lanes": trainer.batch.identity, "iteration": progress.iteration}
    checkpoint.save(checkpoint_path(trainer.session.store, trainer.batch), tree, meta)


def _restore(trainer: _Trainer) -> _Progress:
    path = checkpoint_path(trainer.session.store, trainer.batch)
    if checkpoint.exists(path):
        try:
            return _load(trainer, path)
        except checkpoint.DamagedCheckpoint as damage:
            trainer.session.reporter.note(f"damaged checkpoint, training starts again: {damage}")
            checkpoint.remove(path)
    first_content = trainer.program.content(trainer.lanes, np.int32(0))  # pyright: ignore
    carry = trainer.program.init(trainer.lanes, first_content)
    num_lanes, prints = len(trainer.batch.lanes), trainer.references.prints
    shape = (0, 0) if prints is None else prints.shape
    return _Progress(carry, 0, {}, {}, np.zeros((num_lanes, *shape), bool))


def _load(trainer: _Trainer, path: Path) -> _Progress:
    tree, meta = checkpoint.load(path)
    content = jax.eval_shape(trainer.program.content, trainer.lanes, np.int32(0))
    shapes = jax.eval_shape(trainer.program.init, trainer.lanes, content)
    padding = len(trainer.lanes.seed) - len(trainer.batch.lanes)
    carry = checkpoint.fit(path, tree["carry"], _without_padding(shapes, padding))
    padded = jax.tree.map(
        lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], padding, axis=0)]), carry
    )
    trainer.session.reporter.note(
        f"{trainer.batch.label}: going on from iteration {meta['iteration']} "
        f"of {trainer.config.num_iterations}"
    )
    return _Progress(padded, meta["iteration"], tree["history"], tree.get("curve", {}), tree["seen"])


def _without_padding(shapes: PyTree, padding: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0] - padding, *leaf.shape[1:]), leaf.dtype),
        shapes,
    )


# Results


def _finish(trainer: _Trainer, progress: _Progress) -> None:
    """Evaluate the final policies, write the runs, keep the best model, drop the checkpoint."""
    session, batch = trainer.session, trainer.batch
    began = time.perf_counter()
    params = trainer.program.params(trainer.lanes, progress.carry)
    returns = _real(trainer, trainer.program.evaluate(trainer.lanes, params, trainer.references.suite))
    trainer.seconds["evaluate"] += time.perf_counter() - began
    provenance = {
        "program": batch.label,
        "lanes": len(batch.lanes),
        "seconds": trainer.seconds,
        "platform": platform.describe(),
    }
    finite = np.isfinite(_real(trainer, params)).all(1)
    for index, (spec, seed) in enumerate(batch.lanes):
        if session.store.is_done(spec.name, seed):
            continue
        history = trim_history({name: values[index] for name, values in progress.history.items()})
        result = _result(trainer, progress, index, returns[index], history, bool(finite[index]))
        curve = _distinct_points({name: values[index] for name, values in progress.curve.items()})
        session.store.write_result(spec.name, seed, result, history | curve, provenance)
        if not finite[index]:
            session.reporter.note(f"{spec.experiment} seed {seed} diverged: parameters are not finite")
    keep_best(session.store, session.reporter, batch, _real(trainer, params), trainer.task)
    checkpoint.remove(checkpoint_path(session.store, batch))


def _result(
    trainer: _Trainer, progress: _Progress, index: int, returns: np.ndarray, history: History,
    finite: bool,
) -> dict[str, Any]:
    spec, seed = trainer.batch.lanes[index]
    technique = spec.technique_values
    seen = None if trainer.references.prints is None else progress.seen[index]
    result = make_result(
        spec, seed, returns, trainer.references, history, not finite, seen,
        single_level=len(set(technique.levels)) == 1,
    )
    updates = result["training"]["updates"] - result["training"]["skipped_updates"]
    result["training"]["weight_shrink"] = total_decay(spec.config, technique.weight_decay, updates)
    return result


def _distinct_points(curve: History) -> History:
    """Leave out points at which a resting lane repeats itself."""
    new = np.diff(curve["eval_env_steps"], prepend=-1) > 0
    return {name: values[new] for name, values in curve.items()}


def keep_best(
    store: Store, reporter: Reporter, batch: Batch, params: np.ndarray, task: Task
) -> None:
    """Save the model of the best run of an (algorithm, environment), if this batch holds it.

    Args:
      store: where the runs' results are.
      reporter: is told what was kept.
      batch: the lanes whose parameters are at hand.
      params: float32 ``[L, D]``.
      task: gives the specification that an agent needs.
    """
    spec = batch.lanes[0][0]
    best = best_scores(read_records(store)[0]).get((spec.algorithm, spec.environment))
    own = {(lane.name, seed): index for index, (lane, seed) in enumerate(batch.lanes)}
    index = own.get((best["run"], best["seed"])) if best else None
    if best is None or index is None:
        return
    folder = f"best_models/{spec.algorithm}_{spec.environment}_best"
    lane, seed = batch.lanes[index]
    save_agent(store.path(folder), Agent.of(lane, task.spec, params[index], seed))
    store.write_json(f"best_models/{spec.algorithm}_{spec.environment}_best_scores.json", best)
    reporter.note(f"best model of {batch.label}: {lane.technique}, seed {seed}")


def _keep_best_of(session: Session, batch: Batch, path: Path) -> None:
    """Finish what a batch left that was stopped after its results: the best model."""
    session.reporter.note(f"{batch.label}: all runs of a checkpoint are done, removing it")
    trainer = _make_trainer(session, batch)
    progress = _restore(trainer)
    if _finished(trainer.config, progress):
        params = _real(trainer, trainer.program.params(trainer.lanes, progress.carry))
        keep_best(session.store, session.reporter, batch, params, trainer.task)
    checkpoint.remove(path)

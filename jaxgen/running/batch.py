"""Train the lanes of a batch in chunks, with learning curves and checkpoints."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.episodes import Suite
from jaxgen.evaluation.host_episodes import HostSuite, suite_of
from jaxgen.evaluation.references import References, make_references
from jaxgen.running import progress
from jaxgen.running.progress import Progress, append
from jaxgen.running.session import Batch, Interrupted, Session
from jaxgen.study.config import Config
from jaxgen.study.product import Group
from jaxgen.study.spec import RunSpec
from jaxgen.system import checkpoint, platform
from jaxgen.system.errors import BadInput
from jaxgen.system.files import content_hash
from jaxgen.training.device import make_program
from jaxgen.training.fit import fit, padded
from jaxgen.training.host import make_host_program
from jaxgen.training.keys import evaluation_key
from jaxgen.training.program import Carry, Lanes, Program, stack_lanes
from jaxgen.training.segments import Segment, segments
from jaxgen.types import HostTask, PyTree, Task, is_host


class GroupProgram(NamedTuple):
    """What all batches of a group share: the task, and everything that is compiled."""

    task: Task | HostTask
    program: Program
    devices: list[Any]
    """Of type ``jax.Device``."""
    compiled: dict[int, Callable]
    """``program.train`` by the number of lanes."""


class Trainer(NamedTuple):
    """A batch with what trains it."""

    session: Session
    batch: Batch
    shared: GroupProgram
    lanes: Lanes
    """Padded, see `jaxgen.training.fit.padded`."""
    references: References
    """Of the final evaluation."""
    curve_suite: Suite | HostSuite
    """The episodes of the learning curve's points."""

    @property
    def program(self) -> Program:
        """The compiled functions."""
        return self.shared.program

    @property
    def config(self) -> Config:
        """The configuration that all lanes share."""
        return self.batch.lanes[0][0].config

    def real(self, values: Any) -> np.ndarray:
        """To the host, without padded lanes."""
        return np.asarray(values)[: len(self.batch.lanes)]


def make_group_program(session: Session, group: Group) -> GroupProgram:
    """Build what the batches of a group share; training compiles at its first call."""
    spec, options = group.specs[0], session.options
    task = session.make_task(spec.environment, **spec.task_options)
    devices = jax.local_devices()[: options.num_devices]
    make_algorithm = ALGORITHMS[spec.base]
    if is_host(task):
        program = make_host_program(
            task, make_algorithm, _example(spec), study_seed=spec.study_seed, bridge=options.bridge
        )
        return GroupProgram(task, program, devices[:1], {})
    chunk = max(1, -(-spec.config.curve_iterations // options.chunks_per_point))
    program = make_program(
        task, make_algorithm, study_seed=spec.study_seed, chunk=chunk, devices=devices
    )
    return GroupProgram(task, program, devices, {})


def max_batch_lanes(session: Session, shared: GroupProgram, batch: Batch) -> int:
    """How many of a batch's lanes the devices that there are, and their memory, train together.

    Raises:
      ValueError: memory does not hold the lanes that were asked for.
    """
    options = session.options
    asked = min(len(batch.lanes), options.max_lanes or len(batch.lanes))
    found = fit(shared.program, _example(batch.lanes[0][0]), asked, options.memory_share)
    session.reporter.note(f"{batch.label}: {found}")
    if found.asked <= found.fits or (options.max_lanes is None and found.fits):
        return min(found.asked, found.fits)
    automatic = f"use --lanes-per-program auto (which takes {found.fits})"
    remedy = automatic if found.fits else found.remedy()
    raise BadInput(f"{batch.label}: {found}; {remedy}")


def _example(spec: RunSpec) -> Lanes:
    return stack_lanes([(spec.config, spec.technique_values)], [0])


def _fixed_episodes(
    session: Session, spec: RunSpec, task: Task | HostTask
) -> tuple[References, Suite | HostSuite]:
    """The episodes of the final evaluation and those of the learning curve's points."""
    asked = spec.to_dict()
    decisive = ("environment", "task_options", "evaluation", "study_seed")
    key = content_hash([asked[name] for name in decisive])
    if key not in session.episodes:
        references = make_references(task, spec.evaluation, evaluation_key(spec.study_seed))
        curve_key = evaluation_key(spec.study_seed, purpose=1)
        curve_suite = suite_of(task, curve_key, (0.0,), spec.evaluation.curve_episodes)
        session.episodes[key] = references, curve_suite
    return session.episodes[key]


def make_trainer(session: Session, shared: GroupProgram, batch: Batch) -> Trainer:
    """Line up the lanes of a batch."""
    own = padded(batch.lanes, shared.program)
    arms = [(spec.config, spec.technique_values) for spec, _ in own]
    lanes = stack_lanes(arms, [seed for _, seed in own])
    episodes = _fixed_episodes(session, batch.lanes[0][0], shared.task)
    return Trainer(session, batch, shared, lanes, *episodes)


def train(trainer: Trainer) -> Progress:
    """Train from the checkpoint, if there is one, to the end, and leave a checkpoint there.

    Raises:
      Interrupted: ``should_stop`` said so; the checkpoint is on the disk.
    """
    config, options = trainer.config, trainer.session.options
    path = trainer.batch.checkpoint_path(trainer.session.store)
    state = _restore(trainer, path)
    if state is not None and state.finished(config):
        return state
    start = 0 if state is None else state.iteration
    content, clock = None, _Clock(0.0 if state is None else state.env_steps)
    refresh_steps = getattr(trainer.shared.task, "refresh_steps", None)
    for segment in segments(config, refresh_steps, trainer.program.chunk, start):
        if content is None or segment.fresh_content:
            content = trainer.program.content(trainer.lanes, np.int32(segment.epoch))  # pyright: ignore
            if state is not None and state.iteration == start:
                trainer.program.thaw(content, state.world)
            state = _note_seen(trainer, state or _start(trainer, content), content)
        assert state is not None
        state = _advance(trainer, state, content, segment, clock)
        finished = state.finished(config)
        if segment.curve_point or finished:
            state = _curve_point(trainer, state)
        if finished:
            lanes = range(len(trainer.batch.lanes))
            played = [trainer.program.episodes(content, lane) for lane in lanes]
            state = state._replace(episodes=played)
        stopping = options.should_stop()
        if stopping or finished or clock.checkpoint_due(options.checkpoint_seconds):
            carry, world = trainer.program.freeze(state.carry, content)
            progress.save(path, trainer.batch, state._replace(carry=carry, world=world))
        if finished:
            break
        if stopping:
            raise Interrupted(f"stopped at iteration {state.iteration} of {trainer.batch.label}")
    assert state is not None, "a valid configuration has at least one iteration"
    return state


class _Clock:
    """Since when training runs, and when it was saved last; compiling does not count."""

    def __init__(self, env_steps: float):
        self._env_steps = env_steps
        self.start()

    def start(self) -> None:
        self._began = self._saved = time.monotonic()

    def rate(self, env_steps: float) -> float:
        return (env_steps - self._env_steps) / max(time.monotonic() - self._began, 1e-9)

    def checkpoint_due(self, seconds: float) -> bool:
        due = time.monotonic() - self._saved >= seconds
        if due:
            self._saved = time.monotonic()
        return due


def _restore(trainer: Trainer, path: Path) -> Progress | None:
    """The state in the checkpoint, on the devices; None: there is none, or it is damaged."""
    session, batch = trainer.session, trainer.batch
    if not checkpoint.exists(path):
        return None
    try:
        state = progress.load(path, batch, trainer.program.shapes(trainer.lanes))
    except checkpoint.DamagedCheckpoint as damage:
        session.reporter.note(f"damaged checkpoint, training starts again: {damage}")
        checkpoint.remove(path)
        return None
    session.reporter.note(
        f"{batch.label}: going on from iteration {state.iteration} "
        f"of {trainer.config.num_iterations}"
    )
    return state._replace(carry=trainer.program.place(state.carry))


def _start(trainer: Trainer, content: PyTree) -> Progress:
    carry = trainer.program.init(trainer.lanes, content)
    prints = trainer.references.prints
    shape = (0, 0) if prints is None else prints.shape
    seen = np.zeros((len(trainer.batch.lanes), *shape), bool)
    seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0, "probe": 0.0}
    episodes = [{} for _ in trainer.batch.lanes]
    return Progress(carry, 0, {}, {}, seen, {}, episodes, seconds)


def _note_seen(trainer: Trainer, state: Progress, content: PyTree) -> Progress:
    prints = trainer.references.prints
    if prints is None:
        return state
    seen = trainer.real(trainer.program.overlap(trainer.lanes, content, prints))
    return state._replace(seen=state.seen | seen)


def _advance(
    trainer: Trainer, state: Progress, content: PyTree, segment: Segment, clock: _Clock
) -> Progress:
    """Train one chunk and tell the reporter."""
    compiled = _compiled(trainer, state, content, clock)
    start, stop = np.int32(segment.start), np.int32(segment.stop)
    with timed(state.seconds, "train"):
        carry, metrics = compiled(trainer.lanes, state.carry, content, start, stop)
        new = {name: trainer.real(values)[:, : stop - start] for name, values in metrics.items()}
    history = append(state.history, new)
    state = state._replace(carry=carry, iteration=segment.stop, history=history)
    total = float(trainer.config.total_steps * len(trainer.batch.lanes))
    rate = clock.rate(state.env_steps)
    trainer.session.reporter.progress(trainer.batch.label, state.env_steps, total, rate)
    return state


def _compiled(
    trainer: Trainer, state: Progress, content: PyTree, clock: _Clock
) -> Callable[..., tuple[Carry, dict[str, Any]]]:
    programs, num_lanes = trainer.shared.compiled, len(trainer.lanes.seed)
    if num_lanes not in programs:
        with timed(state.seconds, "compile"):
            programs[num_lanes] = trainer.program.compile(trainer.lanes, state.carry, content)
        # A kill from here on costs no compilation.
        platform.seal_cache()
        clock.start()
    return programs[num_lanes]


def _curve_point(trainer: Trainer, state: Progress) -> Progress:
    """Evaluate the policies at level 0, probe their gradients and tell the reporter."""
    with timed(state.seconds, "evaluate"):
        params = trainer.program.params(trainer.lanes, state.carry)
        suite = trainer.curve_suite
        returns = trainer.real(trainer.program.evaluate(trainer.lanes, params, suite))
    point = {
        "eval_env_steps": state.history["env_steps"][:, -1:],
        "eval_return": returns[:, 0].mean((1, 2), dtype=np.float64)[:, None].astype(np.float32),
    }
    if trainer.batch.lanes[0][0].evaluation.probe:
        with timed(state.seconds, "probe"):
            iteration = np.int32(state.iteration - 1)
            gram = trainer.program.probe(trainer.lanes, state.carry, iteration)  # pyright: ignore
            point["probe_gram"] = trainer.real(gram)[:, None]
    state = state._replace(curve=append(state.curve, point))
    batch = trainer.batch
    trainer.session.reporter.curve(batch.label, batch.lanes, state.history | state.curve)
    return state


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add what the block takes to ``seconds[name]``."""
    began = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - began

"""Train the lanes of a batch in chunks, with learning curves and checkpoints."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.paired import paired
from jaxgen.evaluation.agent import Agent, start_vector
from jaxgen.evaluation.references import References, make_references
from jaxgen.evaluation.saving import load_agent, pack_agent
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.results.kept import start_of
from jaxgen.running import progress, snapshots
from jaxgen.running.progress import Progress, append
from jaxgen.running.session import Batch, Interrupted, Session
from jaxgen.study.config import Config
from jaxgen.study.fork import PAIRED
from jaxgen.study.product import Group
from jaxgen.study.spec import RunSpec
from jaxgen.system import checkpoint
from jaxgen.system.compilation import seal_cache
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, content_hash
from jaxgen.training.build import make_program
from jaxgen.training.fit import fit, needed_devices, padded
from jaxgen.training.fork import begun_with
from jaxgen.training.keys import CURVE_PURPOSE, evaluation_key
from jaxgen.training.loop import Begin, Start, Step, iterate
from jaxgen.training.program import Carry, Lanes, MakeAlgorithm, Program, stack_lanes
from jaxgen.types import HostTask, PyTree, Task, is_host


class GroupProgram(NamedTuple):
    """All that the batches of a group share: the task, and everything that is compiled."""

    task: Task | HostTask
    program: Program
    devices: list[Any]
    """Objects of type ``jax.Device``."""
    compiled: dict[int, Callable]
    """``program.train`` by the number of lanes."""


class Vectors(NamedTuple):
    """The trained vectors of a batch's lanes, without padded lanes."""

    params: np.ndarray
    """float32 ``[L, D]``."""
    critics: np.ndarray | None


class Trainer(NamedTuple):
    """A batch with what trains it."""

    session: Session
    batch: Batch
    shared: GroupProgram
    lanes: Lanes
    """The batch's lanes, padded, see `jaxgen.training.fit.padded`."""
    references: References
    """Floor, ceiling and episodes of the final evaluation."""
    curve_suite: Suite
    """The episodes of the learning curve's points."""

    @property
    def program(self) -> Program:
        """The compiled functions."""
        return self.shared.program

    @property
    def config(self) -> Config:
        """The configuration that all lanes share."""
        return self.batch.lanes[0][0].config

    def pack_agent(self, index: int, vectors: "Vectors", fault: str | None = None) -> bytes:
        """The file of the agent that a lane has trained so far."""
        run, seed = self.batch.lanes[index]
        spec = self.shared.task.spec.stacked(run.config.num_frames)
        critic = None if vectors.critics is None else vectors.critics[index]
        return pack_agent(Agent(
            run.algorithm, run.technique, run.config, spec, vectors.params[index], seed, fault,
            run.name, run.task_options, critic=critic,
        ))  # fmt: skip

    def vectors(self, carry: Carry) -> "Vectors":
        """The vectors of all lanes: those of critics where runs are forked."""
        learner, spec = self.program.learner, self.batch.lanes[0][0]
        params = self.real(learner.params(self.lanes, carry))
        if spec.start is None and not spec.snapshots:
            return Vectors(params, None)
        critics = self.real(learner.critic(self.lanes, carry))
        return Vectors(params, critics if critics.size else None)

    def real(self, values: Any) -> np.ndarray:
        """Bring values to the host, without padded lanes."""
        return np.asarray(values)[: len(self.batch.lanes)]


def make_group_program(session: Session, group: Group) -> GroupProgram:
    """Build what the batches of a group share; training compiles at its first call."""
    spec, options = group.specs[0], session.options
    try:
        task = session.make_task(spec.environment, **spec.task_options)
    except ValueError as error:
        # What a constructor refuses was asked for.
        raise BadInput(str(error)) from error
    devices = needed_devices(len(group.lanes), options.num_devices)
    chunk = max(1, -(-spec.config.curve_iterations // options.chunks_per_point))
    if spec.kept_shares and not spec.config.counts_alike:
        # Which iteration reaches a share of the budget is known once it has.
        chunk = 1
    program = make_program(
        task, _maker(spec, task), _example(spec), study_seed=spec.study_seed, chunk=chunk,
        devices=devices, bridge=options.bridge,
    )
    return GroupProgram(task, program, devices[: program.capacity.num_devices], {})


def _maker(spec: RunSpec, task: Task | HostTask) -> MakeAlgorithm:
    """The constructor of a run's algorithm."""
    make, start = ALGORITHMS[spec.base], spec.start
    if start is None or start.replay not in PAIRED:
        return make
    if is_host(task):
        raise BadInput(
            f"replay = {start.replay!r} is not allowed on {task.spec.name}, which lives on the "
            "host; use copy, fresh or split"
        )
    return partial(paired, make, start.iteration(spec.config), start.replay == "tandem")


def max_batch_lanes(session: Session, shared: GroupProgram, batch: Batch) -> int:
    """How many of a batch's lanes the devices that there are, and their memory, train together.

    Raises:
      ValueError: memory does not hold the lanes that were asked for.
    """
    options, spec = session.options, batch.lanes[0][0]
    alone = (spec.kept_shares or spec.start) and not spec.config.counts_alike
    if alone or spec.config.plateau_points:
        # Lanes reach a share of their budgets, or stop, at iterations of their own.
        return 1
    asked = min(len(batch.lanes), options.max_lanes or len(batch.lanes))
    capacity, example = shared.program.capacity, _example(batch.lanes[0][0])
    fit_result = fit(capacity, example, asked, options.memory_share)
    if fit_result.tight:
        session.reporter.note(f"{batch.label}: {fit_result}")
    if fit_result.asked <= fit_result.fits or (options.max_lanes is None and fit_result.fits):
        return min(fit_result.asked, fit_result.fits)
    automatic = f"use --lanes-per-program auto (which takes {fit_result.fits})"
    remedy = automatic if fit_result.fits else fit_result.remedy()
    raise BadInput(f"{batch.label}: {fit_result}; {remedy}")


def _example(spec: RunSpec) -> Lanes:
    return stack_lanes([(spec.config, spec.technique_values)], [0])


def _fixed_episodes(
    session: Session, spec: RunSpec, task: Task | HostTask
) -> tuple[References, Suite]:
    """The episodes of the final evaluation and those of the learning curve's points."""
    asked = spec.to_dict()
    decisive = ("environment", "task_options", "evaluation", "study_seed")
    key = content_hash([asked[name] for name in decisive])
    if key not in session.episodes:
        references = make_references(task, spec.evaluation, evaluation_key(spec.study_seed))
        curve_key = evaluation_key(spec.study_seed, CURVE_PURPOSE)
        evaluation = spec.evaluation
        curve_suite = make_suite(
            task, curve_key, evaluation.curve_levels, evaluation.curve_episodes
        )
        session.episodes[key] = references, curve_suite
    return session.episodes[key]


def make_trainer(session: Session, shared: GroupProgram, batch: Batch) -> Trainer:
    """Line up the lanes of a batch."""
    padded_lanes = padded(batch.lanes, shared.program.capacity)
    arms = [(spec.config, spec.technique_values) for spec, _ in padded_lanes]
    snapshots.check_starts(batch)
    forks = [spec.start for spec, _ in padded_lanes if spec.start is not None]
    lanes = stack_lanes(arms, [seed for _, seed in padded_lanes], forks)
    episodes = _fixed_episodes(session, batch.lanes[0][0], shared.task)
    return Trainer(session, batch, shared, lanes, *episodes)


def train(trainer: Trainer) -> Progress:
    """Train from the checkpoint, if there is one, to the end, and leave a checkpoint there.

    Raises:
      Interrupted: ``should_stop`` said so; the checkpoint is on the disk.
    """
    options, program = trainer.session.options, trainer.program
    path = trainer.batch.checkpoint_path(trainer.session.store)
    state, start = _begin(trainer, path)
    if progress.has_plateaued(trainer.config, state):
        return state
    shares = trainer.batch.lanes[0][0].kept_shares
    stops = snapshots.stops(trainer.config, shares)
    clock = _Clock(state.env_steps)

    def train_chunk(*args: Any) -> tuple[Carry, dict[str, np.ndarray]]:
        return _train_chunk(trainer, state.seconds, clock, *args)

    begin = _beginning(trainer)
    for step in iterate(program, trainer.lanes, start, train_chunk, stops, begin):
        before = state.env_steps
        state = _after(trainer, state, step, clock)
        if step.segment.curve_point or step.finished:
            state = _curve_point(trainer, state)
            snapshots.keep_best(trainer, state)
        finished = step.finished or progress.has_plateaued(trainer.config, state)
        if finished:
            lanes = range(len(trainer.batch.lanes))
            played = [program.world.episodes(step.content, lane) for lane in lanes]
            state = state._replace(episodes=played)
        for share in snapshots.reached(trainer.config, shares, stops, state, before):
            # Before the checkpoint, from which no start goes back.
            snapshots.keep(trainer, state, step, share)
        stopping = options.should_stop()
        if stopping or finished or clock.checkpoint_due(options.checkpoint_seconds):
            carry, host_state = program.world.save(step.carry, step.content, None)
            saved = state._replace(carry=carry, host_state=host_state)
            progress.save(path, trainer.batch, saved)
        if finished:
            break
        if stopping:
            raise Interrupted(f"stopped at iteration {state.iteration} of {trainer.batch.label}")
    return state


def _beginning(trainer: Trainer) -> Begin | None:
    """A change of the first carry, where runs begin with an agent; BadInput: it does not suit."""
    spec = trainer.batch.lanes[0][0]
    if spec.agent is None:
        return None
    try:
        agent = load_agent(start_of(trainer.session.store, spec.agent))
    except DamagedFile as damage:
        raise BadInput(f"{damage}; give the agent again by --start") from None
    vector = start_vector(agent, trainer.shared.task, spec.algorithm, spec.base)
    return lambda lanes, carry: begun_with(trainer.program, lanes, carry, vector)


class _Clock:
    """Time since training began and since it was saved last; compiling does not count."""

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


def _begin(trainer: Trainer, path: Path) -> tuple[Progress, Start | None]:
    """The state of a batch before its first step, and from where training goes on."""
    restored = _restore(trainer, path)
    if restored is not None:
        host_states = [(None, restored.host_state)]
        return restored, Start(restored.iteration, restored.carry, host_states)
    return snapshots.forked(trainer) or (_nothing(trainer), None)


def _restore(trainer: Trainer, path: Path) -> Progress | None:
    """The state in the checkpoint; None: there is none, or it is damaged."""
    session, batch = trainer.session, trainer.batch
    if not checkpoint.exists(path):
        return None
    try:
        state = progress.load(path, batch, trainer.program.learner.shapes(trainer.lanes))
    except checkpoint.DamagedCheckpoint as damage:
        session.reporter.note(f"damaged checkpoint, training starts again: {damage}")
        checkpoint.remove(path)
        return None
    session.reporter.note(
        f"{batch.label}: going on from iteration {state.iteration} "
        f"of {trainer.config.trained_iterations}"
    )
    return state


def _nothing(trainer: Trainer) -> Progress:
    """The state before training begins."""
    prints = trainer.references.prints
    shape = (0, 0) if prints is None else prints.shape
    seen = np.zeros((len(trainer.batch.lanes), *shape), bool)
    seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0, "probe": 0.0}
    episodes = [{} for _ in trainer.batch.lanes]
    return Progress(None, 0, {}, {}, seen, {}, episodes, seconds)  # pyright: ignore


def _train_chunk(
    trainer: Trainer, seconds: dict[str, float], clock: _Clock, lanes: Lanes, carry: Carry,
    content: PyTree, start: Any, stop: Any,
) -> tuple[Carry, dict[str, np.ndarray]]:
    """Train as ``program.train``, compiled ahead; metrics of the batch's lanes and iterations."""
    programs, num_lanes = trainer.shared.compiled, len(lanes.seed)
    if num_lanes not in programs:
        trainer.session.reporter.stage(f"{trainer.batch.label}: compiling")
        with timed(seconds, "compile"):
            programs[num_lanes] = trainer.program.learner.compile(lanes, carry, content)
        # A kill from here on costs no compilation.
        seal_cache()
        clock.start()
    with timed(seconds, "train"):
        carry, metrics = programs[num_lanes](lanes, carry, content, start, stop)
        return carry, {
            name: trainer.real(values)[:, : stop - start] for name, values in metrics.items()
        }


def _after(trainer: Trainer, state: Progress, step: Step, clock: _Clock) -> Progress:
    """The state after a step; tells the reporter."""
    history = append(state.history, step.metrics)
    seen, prints = state.seen, trainer.references.prints
    if step.fresh and prints is not None:
        overlap = trainer.program.world.overlap(trainer.lanes, step.content, prints)
        seen = seen | trainer.real(overlap)
    state = state._replace(
        carry=step.carry, iteration=step.segment.stop, history=history, seen=seen
    )
    total = float(trainer.config.trained_steps * len(trainer.batch.lanes))
    rate = clock.rate(state.env_steps)
    trainer.session.reporter.progress(trainer.batch.label, state.env_steps, total, rate)
    return state


def _curve_point(trainer: Trainer, state: Progress) -> Progress:
    """Evaluate the policies at the curve's levels, probe their gradients and tell the reporter."""
    with timed(state.seconds, "evaluate"):
        params = trainer.program.learner.params(trainer.lanes, state.carry)
        episodes = trainer.curve_suite.episodes
        played = trainer.program.evaluate(trainer.lanes, params, episodes)
    greedy, lengths = (trainer.real(values)[:, 0] for values in played)
    mean = greedy[:, :1].mean((1, 2), dtype=np.float64)[:, None].astype(np.float32)
    point = {"eval_env_steps": state.history["env_steps"][:, -1:], "eval_return": mean}
    if greedy.shape[1] > 1:
        at_levels = greedy.mean(2, dtype=np.float64).astype(np.float32)
        point["eval_return_at_levels"] = at_levels[:, None]
    if trainer.batch.lanes[0][0].followed is not None:
        point |= {"eval_returns": greedy[:, None], "eval_lengths": lengths[:, None]}
    if trainer.batch.lanes[0][0].evaluation.probe:
        with timed(state.seconds, "probe"):
            iteration = np.int32(state.iteration - 1)
            grams = trainer.program.probe(trainer.lanes, state.carry, iteration)  # pyright: ignore
            point |= {name: trainer.real(gram)[:, None] for name, gram in grams.items()}
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

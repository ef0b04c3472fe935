"""Watching a study: TensorBoard and Weights & Biases, fed with what its history files hold.

Both are optional. Nothing of them is imported unless it is asked for, and a study trains the
same bits with and without them. A run of theirs is a seed, named ``<experiment>_seed_<seed>``;
W&B's groups are the cells. The x-axis is env steps. Written are ``train/<metric>``,
``eval/return`` (the learning curve) and, when the run is done, ``final/...``, the scores of its
result.json. What is not finite (no episode ended) is left out.

The truth is in the store: an event file or a W&B run that an earlier process left unfinished is
removed and written anew from the first iteration on, so that after a kill nothing is there twice
and nothing is missing. W&B runs are known by an id made of run name and seed, so that a run
which is written anew also replaces the one that was uploaded.

To cost a study next to nothing, a run has at most about `MAX_ROWS` rows of each metric: the
budget is divided into so many parts, and where several iterations end in one, their mean is
written at the last one's env steps. Runs of fewer iterations are written as they are.
"""

import hashlib
import importlib
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np

from jaxgen.records import EPISODES
from jaxgen.results import trim_history
from jaxgen.session import History, Lane, Reporter
from jaxgen.store import DamagedFile, Store
from jaxgen.study import RunSpec

MAX_ROWS = 500
"""Parts of a budget, from each of which a metric gets one row."""
WANDB_MODES = ("offline", "online")
WANDB_PROJECT = "jaxgen"
"""Unless the environment variable WANDB_PROJECT names another one."""
REMEDY = "pip install tensorboardX 'wandb>=0.19.10'"


class Run(NamedTuple):
    """A seed of a cell: the run's name in the store, and its seed."""

    name: str
    seed: int


class Row(NamedTuple):
    """Values by name at a number of env steps."""

    env_steps: int
    values: dict[str, float]


class Sink(Protocol):
    """Where runs are written to; whatever it raises, training goes on without it."""

    name: str
    """For a reader."""

    def has(self, run: Run) -> bool:
        """Whether the run was finished here, by this process or an earlier one."""
        ...

    def start(self, run: Run, spec: RunSpec) -> None:
        """Begin a run, without anything that an earlier process wrote of it."""
        ...

    def write(self, run: Run, rows: Sequence[Row]) -> None:
        """Add rows to a run that was started; env steps increase."""
        ...

    def finish(self, run: Run, scores: Row) -> None:
        """Add the final scores: nothing of the run is missing then."""
        ...

    def close(self) -> None:
        """Let go of all runs, also of those that were not finished."""
        ...


# From histories to rows


class Given(NamedTuple):
    """How much of a lane's history was made into rows."""

    iterations: int
    points: int


NOTHING = Given(0, 0)


def new_rows(
    history: Mapping[str, np.ndarray], total_steps: int, given: Given = NOTHING, ended: bool = True
) -> tuple[list[Row], Given]:
    """Make what is new in a lane's history into rows, by increasing env steps.

    Args:
      history: metrics ``[I]`` from the first iteration on, and points ``[C]`` of the learning
        curve, in memory or as stored; other arrays are no scalars and are left out.
      total_steps: the run's budget.
      given: what was made into rows before.
      ended: nothing follows. Otherwise the last part of the budget that has iterations waits, as
        more of them may be to come.

    Returns:
      The rows, and what is given now.
    """
    metrics = trim_history({
        name: values[given.iterations :] for name, values in history.items() if _is_metric(name)
    })
    windows, iterations = _thin(metrics, total_steps, ended)
    points, num_points = _new_points(history, given.points)
    rows: dict[int, dict[str, float]] = {}
    for env_steps, series in (*windows, *points):
        for name, value in series.items():
            if np.isfinite(value):
                rows.setdefault(int(env_steps), {})[name] = float(value)
    in_order = [Row(env_steps, rows[env_steps]) for env_steps in sorted(rows)]
    return in_order, Given(given.iterations + iterations, num_points)


def _is_metric(name: str) -> bool:
    return not name.startswith(("eval_", "probe_", EPISODES))


_Points = Iterator[tuple[int, dict[str, float]]]


def _thin(metrics: History, total_steps: int, ended: bool) -> tuple[_Points, int]:
    """Means over the parts of the budget, and of how many iterations they are."""
    env_steps = metrics["env_steps"].astype(np.int64)
    part = env_steps * MAX_ROWS // total_steps
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    if not ended and len(starts):
        starts, stop = starts[:-1], int(starts[-1])
    else:
        stop = len(env_steps)
    if not stop:
        return iter(()), 0
    at = env_steps[np.append(starts[1:], stop) - 1]
    means = {
        f"train/{name}": _means(values[:stop], starts)
        for name, values in metrics.items()
        if values.ndim == 1 and name != "env_steps"
    }
    return _columns(at, means), stop


def _means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Means ``[R]`` of what is finite among values ``[I]`` from each start to the next."""
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0), starts, dtype=np.float64)
    counts = np.add.reduceat(finite, starts, dtype=np.int64)
    return np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)


def _new_points(history: Mapping[str, np.ndarray], given: int) -> tuple[_Points, int]:
    """Points of the learning curve; one at which a resting lane repeats itself is none."""
    if "eval_return" not in history:
        return iter(()), given
    env_steps = history["eval_env_steps"]
    new = np.diff(env_steps, prepend=-1) > 0
    new[:given] = False
    return _columns(env_steps[new], {"eval/return": history["eval_return"][new]}), len(env_steps)


def _columns(env_steps: np.ndarray, series: Mapping[str, np.ndarray]) -> _Points:
    for index, at in enumerate(env_steps.tolist()):
        yield at, {name: values[index] for name, values in series.items()}


def final_scores(result: Mapping[str, Any]) -> Row:
    """The numbers of a result.json that sum a run up, at its last env steps.

    Scores and mean returns of each mode, agreement by source; what is null is left out.
    """
    values = {"final/diverged": float(result["status"] == "diverged")}
    for mode, scores in (result["scores"] or {}).items():
        values |= _numbers(f"final/{mode}", scores)
    evaluation = result["evaluation"] or {"modes": {}}
    for mode, returns in evaluation["modes"].items():
        by_level = zip(evaluation["levels"], returns["mean"], strict=True)
        values |= {f"final/{mode}/return_at_{level:g}": mean for level, mean in by_level}
    for source, agreement in result["gas"].items():
        values |= _numbers(f"final/gas_{source}", agreement or {})
    return Row(result["env_steps"]["actual"], values)


def _numbers(prefix: str, scores: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    return {f"{prefix}/{name}": float(value) for name, value in numbers.items()}


# The reporter


@dataclass
class _Watch:
    """Where the writing of a run stands."""

    spec: RunSpec
    given: Given = NOTHING


class Watched:
    """A `jaxgen.session.Reporter` that tells another one, and gives sinks what is new.

    Use it as a context: at its end, runs that are done are finished, and so are runs of
    ``lanes`` that were done before, or by another process, and that a sink lacks.

    Args:
      reporter: is told everything; also that a sink failed, which is then left out.
      sinks: none of them costs nothing.
      store: where runs that are done have their results.
      lanes: of the whole study.
    """

    def __init__(
        self, reporter: Reporter, sinks: Sequence[Sink], store: Store, lanes: Sequence[Lane] = ()
    ):
        self._reporter = reporter
        self._sinks = list(sinks)
        self._store = store
        self._lanes = lanes
        self._open: dict[Run, _Watch] = {}
        self._finished: set[Run] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for run in tuple(self._open):
            self._finish(run)
        # Who interrupts a study does not want to wait for runs that were done before.
        if kind is None:
            self._catch_up()
        self._tell(lambda sink: sink.close())

    def note(self, text: str) -> None:
        """Tell the other reporter."""
        self._reporter.note(text)

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        """Tell the other reporter."""
        self._reporter.progress(label, env_steps, total, rate)

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        """Tell the other reporter, and give the sinks what is new of each lane."""
        self._reporter.curve(label, lanes, history)
        if not self._sinks:
            return
        runs = [Run(spec.name, seed) for spec, seed in lanes]
        # Those of another batch, which must be done by now.
        for run in self._open.keys() - set(runs):
            self._finish(run)
        for index, (run, (spec, _)) in enumerate(zip(runs, lanes, strict=True)):
            # The best model may be lost and trained again, by a run of which all is here.
            if run not in self._finished:
                self._give(run, spec, {name: values[index] for name, values in history.items()})

    def _give(self, run: Run, spec: RunSpec, history: History, ended: bool = False) -> None:
        if run not in self._open:
            self._open[run] = _Watch(spec)
            self._tell(lambda sink: sink.start(run, spec))
        watch = self._open[run]
        rows, watch.given = new_rows(history, spec.config.total_steps, watch.given, ended)
        if rows:
            self._tell(lambda sink: sink.write(run, rows))

    def _finish(self, run: Run) -> None:
        """Write what is left of a run, and its scores, if it is done."""
        stored = self._stored(run)
        if stored is not None:
            history, scores = stored
            self._give(run, self._open[run].spec, history, ended=True)
            self._tell(lambda sink: sink.finish(run, scores))
            del self._open[run]
            self._finished.add(run)

    def _catch_up(self) -> None:
        """Write what is done and was not trained under these eyes."""
        lanes = [(Run(spec.name, seed), spec) for spec, seed in self._lanes if self._sinks]
        others = [(run, spec) for run, spec in lanes if run not in self._finished]
        self._tell(lambda sink: self._bring(sink, others))

    def _bring(self, sink: Sink, lanes: Sequence[tuple[Run, RunSpec]]) -> None:
        num_written = 0
        for run, spec in lanes:
            stored = None if sink.has(run) else self._stored(run)
            if stored is not None:
                history, scores = stored
                sink.start(run, spec)
                sink.write(run, new_rows(history, spec.config.total_steps)[0])
                sink.finish(run, scores)
                num_written += 1
        if num_written:
            self.note(f"{sink.name}: {num_written} runs that were done before are written")

    def _stored(self, run: Run) -> tuple[History, Row] | None:
        """History and scores of a run; None: it is not done."""
        try:
            result = self._store.read_result(run.name, run.seed)
            return self._store.read_history(run.name, run.seed), final_scores(result)
        except DamagedFile:
            return None

    def _tell(self, action: Callable[[Sink], object]) -> None:
        """Let each sink do something; one that fails is left out from then on."""
        for sink in tuple(self._sinks):
            try:
                action(sink)
            except Exception as error:
                self._sinks.remove(sink)
                why = f"{type(error).__name__}: {error}"
                self.note(f"{sink.name} failed and is left out from here on ({why})")


# The sinks


def make_sinks(
    root: Path, tensorboard: bool = False, wandb: Literal["offline", "online"] | None = None
) -> list[Sink]:
    """Those that are asked for, below a results folder.

    Raises:
      ValueError: a package is missing, a mode is unknown, or W&B knows no account to upload to.
    """
    sinks: list[Sink] = []
    if tensorboard:
        sinks.append(TensorBoard(root / "tensorboard"))
    if wandb is not None:
        sinks.append(WandB(root, wandb))
    return sinks


def _package(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{name} needs a package that is missing: {error}; {REMEDY}") from error


class TensorBoard:
    """Event files ``<run name>/seed_0000/events.out.tfevents.*`` below a folder.

    Of tensorboardX only the messages and checksums are used. Its writers put events into a queue
    that a thread empties; on a full disk the thread dies, and who fills the queue waits forever.

    Raises:
      ValueError: tensorboardX is missing.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path):
        self._folder = folder
        self._messages = _package("tensorboardX.proto.event_pb2", self.name)
        self._checksum = _package("tensorboardX.record_writer", self.name).masked_crc32c
        self._files: dict[Run, Path] = {}

    def has(self, run: Run) -> bool:
        """Whether the scores are there, which have a file of their own and come last."""
        return any(self._run_folder(run).glob("*.tfevents.*.scores"))

    def start(self, run: Run, spec: RunSpec) -> None:
        """Remove earlier event files, and begin a new one."""
        folder = self._run_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.tfevents.*"):
            file.unlink()
        # TensorBoard reads the files of a folder by name, so that the name begins with the time.
        self._files[run] = folder / f"events.out.tfevents.{int(time.time())}.jaxgen"
        self._begin(self._files[run])

    def write(self, run: Run, rows: Sequence[Row]) -> None:
        """Add an event for each row."""
        self._append(self._files[run], rows)

    def finish(self, run: Run, scores: Row) -> None:
        """Write the scores into a file of their own."""
        file = self._files.pop(run)
        self._begin(file.with_name(f"{file.name}.scores"), [scores])

    def close(self) -> None:
        """Nothing to do: no file is open between two calls."""

    def _run_folder(self, run: Run) -> Path:
        return self._folder / run.name / f"seed_{run.seed:04d}"

    def _begin(self, file: Path, rows: Sequence[Row] = ()) -> None:
        version = self._messages.Event(wall_time=time.time(), file_version="brain.Event:2")
        self._append(file, rows, self._record(version))

    def _append(self, file: Path, rows: Sequence[Row], begin: bytes = b"") -> None:
        now = time.time()
        records = [begin]
        for env_steps, values in rows:
            event = self._messages.Event(wall_time=now, step=env_steps)
            for name, value in values.items():
                event.summary.value.add(tag=name, simple_value=value)
            records.append(self._record(event))
        # Not kept open: a study may have more runs than a process may have files.
        with file.open("ab") as stream:
            stream.write(b"".join(records))

    def _record(self, event: Any) -> bytes:
        """A TFRecord: length, its checksum, the message, its checksum."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", self._checksum(part)) for part in (length, data))
        return length + next(checks) + data + next(checks)


class WandB:
    """W&B runs, in ``<root>/wandb`` as W&B names them; ``wandb sync`` uploads what is offline.

    Args:
      root: the results folder.
      mode: offline touches no network; online uploads while training.

    Raises:
      ValueError: wandb is missing, the mode is unknown, or W&B knows no account to upload to.
    """

    name = "W&B"

    def __init__(self, root: Path, mode: Literal["offline", "online"] = "offline"):
        if mode not in WANDB_MODES:
            raise ValueError(f"W&B mode {mode!r} is unknown; use one of {', '.join(WANDB_MODES)}")
        if mode == "offline":
            # Reports on itself W&B sends whatever the mode of a run is.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._root = root
        self._mode = mode
        self._wandb = _package("wandb", self.name)
        self._wandb.setup(self._wandb.Settings(mode=mode, silent=True))
        if mode == "online":
            self._log_in()
        self._runs: dict[Run, Any] = {}
        self._complete: list[Run] = []

    def has(self, run: Run) -> bool:
        """Whether the run is complete in this mode: one that is offline was not uploaded by us."""
        return self._marker(run, self._mode).exists()

    def start(self, run: Run, spec: RunSpec) -> None:
        """Remove what earlier processes left of the run, and begin it."""
        for mode in WANDB_MODES:
            self._marker(run, mode).unlink(missing_ok=True)
        for folder in (self._root / "wandb").glob(f"*run-*-{self.run_id(run)}"):
            shutil.rmtree(folder)
        self._runs[run] = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", WANDB_PROJECT),
            dir=str(self._root),
            id=self.run_id(run),
            name=f"{spec.experiment}_seed_{run.seed}",
            group=spec.experiment,
            config=spec.to_dict() | {"run": run.name, "seed": run.seed},
            mode=self._mode,
            # Many runs at a time, of which none is the current one.
            reinit="create_new",
            settings=self._settings(),
        )

    def write(self, run: Run, rows: Sequence[Row]) -> None:
        """Log each row."""
        for env_steps, values in rows:
            self._runs[run].log(values, step=env_steps)

    def finish(self, run: Run, scores: Row) -> None:
        """Set the summary; a run that uploads is left open, as its end waits for the network."""
        self._runs[run].summary.update(scores.values)
        self._complete.append(run)
        if self._mode == "offline":
            self._end(run)

    def close(self) -> None:
        """End all runs; one that is not complete counts as failed until it is written anew."""
        for run in tuple(self._runs):
            self._end(run)

    @staticmethod
    def run_id(run: Run) -> str:
        """What W&B knows a run by."""
        return hashlib.sha256(f"{run.name}/{run.seed}".encode()).hexdigest()[:16]

    def _end(self, run: Run) -> None:
        complete = run in self._complete
        self._runs.pop(run).finish(exit_code=0 if complete else 1)
        if complete:
            marker = self._marker(run, self._mode)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()

    def _marker(self, run: Run, mode: str) -> Path:
        return self._root / "wandb" / "complete" / f"{self.run_id(run)}.{mode}"

    def _settings(self) -> Any:
        """Nothing but what is logged: no output of the process, no measurements of the machine."""
        return self._wandb.Settings(
            silent=True, console="off", save_code=False, disable_git=True,
            x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
        )  # fmt: skip

    def _log_in(self) -> None:
        remedy = "run `wandb login`, or use offline and `wandb sync`"
        try:
            known = self._wandb.login()
        except self._wandb.Error as error:
            raise ValueError(f"W&B knows no account to upload to: {error}; {remedy}") from error
        if not known:
            raise ValueError(f"W&B knows no account to upload to; {remedy}")

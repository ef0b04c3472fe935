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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from jaxgen.results.store import Store
from jaxgen.running.reporter import History, Lane, Reporter
from jaxgen.running.watching.rows import START, Cursor, Row, Run, Sink, final_scores, new_rows
from jaxgen.study.spec import RunSpec
from jaxgen.system.files import DamagedFile


@dataclass
class _Writing:
    """The state of writing one run."""

    spec: RunSpec
    cursor: Cursor = START


class Watched:
    """A `jaxgen.running.reporter.Reporter` that tells another one, and gives sinks what is new.

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
        self._open: dict[Run, _Writing] = {}
        self._finished: set[Run] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for run in tuple(self._open):
            self._finish(run)
        # A person who interrupts a study does not want to wait for runs that were done before.
        if kind is None:
            self._catch_up()
        self._each_sink(lambda sink: sink.close())

    def note(self, text: str) -> None:
        """Tell the other reporter."""
        self._reporter.note(text)

    def stage(self, text: str) -> None:
        """Tell the other reporter."""
        self._reporter.stage(text)

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
                of_lane = {name: values[index] for name, values in history.items()}
                self._write_new(run, spec, of_lane)

    def _write_new(self, run: Run, spec: RunSpec, history: History, ended: bool = False) -> None:
        if run not in self._open:
            self._open[run] = _Writing(spec)
            self._each_sink(lambda sink: sink.start(run, spec))
        writing = self._open[run]
        rows, writing.cursor = new_rows(history, spec.config.total_steps, writing.cursor, ended)
        if rows:
            self._each_sink(lambda sink: sink.write(run, rows))

    def _finish(self, run: Run) -> None:
        """Write what is left of a run, and its scores, if it is done."""
        stored = self._stored(run)
        if stored is not None:
            history, scores = stored
            self._write_new(run, self._open[run].spec, history, ended=True)
            self._each_sink(lambda sink: sink.finish(run, scores))
            del self._open[run]
            self._finished.add(run)

    def _catch_up(self) -> None:
        """Write runs that are done and were not trained by this process."""
        lanes = [(Run(spec.name, seed), spec) for spec, seed in self._lanes if self._sinks]
        others = [(run, spec) for run, spec in lanes if run not in self._finished]
        self._each_sink(lambda sink: self._write_done(sink, others))

    def _write_done(self, sink: Sink, lanes: Sequence[tuple[Run, RunSpec]]) -> None:
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

    def _each_sink(self, action: Callable[[Sink], object]) -> None:
        """Let each sink do something; one that fails is left out from then on."""
        for sink in tuple(self._sinks):
            try:
                action(sink)
            except Exception as error:
                self._sinks.remove(sink)
                why = f"{type(error).__name__}: {error}"
                self.note(f"{sink.name} failed and is left out from here on ({why})")

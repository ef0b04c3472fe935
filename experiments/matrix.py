"""Train the generalisation matrix: algorithms x techniques x environments x seeds.

    python experiments/matrix.py --vmap-seeds

Results lie in --out; the same command goes on where it was interrupted.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import make_task
from experiments.command_line import launch_of, left_out, parse, study_of
from jaxgen.results.lock import locked
from jaxgen.results.store import Store, open_store
from jaxgen.study.estimate import describe_plan
from jaxgen.study.product import Study
from jaxgen.system import platform
from jaxgen.system.files import NO_SPACE, DamagedFile

if TYPE_CHECKING:
    from jaxgen.running.console import Console
    from jaxgen.running.reporter import Reporter
    from jaxgen.running.session import Options
    from jaxgen.running.watching.rows import Sink
    from jaxgen.running.workers.settings import Launch
    from jaxgen.running.workers.units import Unit

FAILED, BAD_INPUT, DISK_FULL, INTERRUPTED = 1, 2, 74, 130
"""Exit codes besides 0: something of the study failed; nothing was started; the disk is full;
stopped on request. What was computed until then is kept in each case."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code says how it went, see `FAILED` and its neighbours."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parse(argv)
    try:
        return _run(args, argv)
    except (ValueError, DamagedFile) as error:
        print(f"matrix.py: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        # What is printed may go to the same disk.
        with suppress(OSError):
            print(f"matrix.py: the disk is full ({error}): make room; {_how_to_go_on(args)}",
                  file=sys.stderr)
        return DISK_FULL
    except KeyboardInterrupt:
        print(f"matrix.py: stopped at once; {_how_to_go_on(args)}", file=sys.stderr)
        return INTERRUPTED


def _run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    if args.status:
        from jaxgen.running.workers.status import status_text

        print(status_text(open_store(args.status, create=False)))
        return 0
    study, how = study_of(args), launch_of(args)
    if note := left_out(args):
        print(note)
    if args.list:
        print(describe_plan(study))
        return 0
    if args.analyze:
        store = open_store(args.out, create=False)
        with locked(store):
            _conclude(args, store, study)
        return 0
    if args.worker:
        return _work(args, study, how)
    if how.isolated or how.launcher != "inline":
        return _launch(args, study, how, argv)
    platform.configure(args.device, args.devices, allow_known_bad=args.allow_known_bad)
    store = open_store(args.out)
    with locked(store):
        return _train(args, study, store)


def _train(args: argparse.Namespace, study: Study, store: Store) -> int:
    from jaxgen.running.console import Console
    from jaxgen.running.kinds.matrix import KIND
    from jaxgen.running.runner import run_study
    from jaxgen.running.session import Interrupted
    from jaxgen.running.workers.units import write_plan

    began = time.perf_counter()
    backend = platform.confirm_backend(args.device, args.allow_known_bad, args.devices)
    console = Console(args.quiet)
    _greet(args, study, console, f"on {backend}")
    write_plan(store, study)
    sinks, under_way = _sinks(args, store), False

    def ask() -> bool:
        nonlocal under_way
        under_way = True
        return should_stop()

    try:
        with (
            _begun(lambda: under_way), _stop_flag() as should_stop,
            _watched(console, sinks, store, study) as reporter,
        ):
            run_study(study, store, make_task, reporter, KIND, _options(args, ask))
    except Interrupted as interrupted:
        console.note(f"{interrupted}; {_how_to_go_on(args)}")
        return INTERRUPTED
    platform.seal_cache()
    with _begun():
        _conclude(args, store, study)
    print(f"Finished in {time.perf_counter() - began:.0f} s")
    return 0


def _launch(args: argparse.Namespace, study: Study, how: "Launch", argv: Sequence[str]) -> int:
    """Train in workers."""
    from jaxgen.running.console import Console
    from jaxgen.running.kinds.matrix import KIND
    from jaxgen.running.session import Interrupted
    from jaxgen.running.workers.coordinate import planned, wait_alone, what_failed
    from jaxgen.running.workers.launch import make_executor
    from jaxgen.running.workers.units import JOBS

    began, console, store = time.perf_counter(), Console(args.quiet), open_store(args.out)
    # What can be refused is refused before anything is discarded.
    sinks = _sinks(args, store)
    executor = None
    if not how.isolated:
        executor = make_executor(how.launcher, store.path(JOBS), how.settings)
    with planned(study, store, KIND, how, args.fresh, console.note) as (lock, units):
        try:
            with _watched(console, sinks, store, study):
                _coordinate(args, study, store, how, executor, argv, units, console)
        except Interrupted as interrupted:
            console.note(f"{interrupted}; {_how_to_go_on(args)}")
            return INTERRUPTED
        wait_alone(lock, console.note)
        failed = what_failed(units, store, how)
        missing = _num_missing(store, study)
        with _begun():
            _conclude(args, store, study)
    if missing:
        print(f"matrix.py: {missing} of {study.num_trained} runs are not done; "
              f"{_how_to_go_on(args)}", file=sys.stderr)
    print(f"Finished in {time.perf_counter() - began:.0f} s")
    return FAILED if failed or missing else 0


@contextmanager
def _begun(has: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Once training has begun, a ValueError is not the input's: it comes with its traceback."""
    try:
        yield
    except ValueError as error:
        if not has():
            raise
        raise RuntimeError(f"the study failed; what was done is kept: {error}") from error


def _coordinate(
    args: argparse.Namespace, study: Study, store: Store, how: "Launch", executor: Any,
    argv: Sequence[str], units: Sequence["Unit"], console: "Console",
) -> None:
    """Start workers, wait for them, and say what went wrong; Interrupted: a stop was asked for."""
    from jaxgen.running.session import Interrupted
    from jaxgen.running.workers.coordinate import coordinate
    from jaxgen.running.workers.launch import worker_command

    where = "one program after the other" if how.isolated else f"{how.num_workers} {how.launcher}"
    _greet(args, study, console, f"in workers ({where}), {len(units)} units")
    command = worker_command(Path(__file__).resolve(), argv, store.root)
    with _stop_flag() as should_stop:
        wrong = coordinate(units, store, how, executor, command, console.view, should_stop)
        for line in wrong:
            print(f"matrix.py: {line}", file=sys.stderr)
        if should_stop():
            raise Interrupted("stopped")


def _num_missing(store: Store, study: Study) -> int:
    return sum(not store.is_done(spec.name, seed) for spec, seed in study.lanes)


def _work(args: argparse.Namespace, study: Study, how: "Launch") -> int:
    """Be a worker: a process that a launcher has started, here or on another machine."""
    from jaxgen.running.console import Console
    from jaxgen.running.kinds.matrix import KIND
    from jaxgen.running.session import Interrupted
    from jaxgen.running.workers.coordinate import work
    from jaxgen.running.workers.worker import own_log

    store = open_store(args.out, create=False)
    neighbours = how.num_workers if how.launcher == "local" else 1
    if neighbours > 1:
        # Each takes that share of a GPU as soon as it starts; three quarters is what one takes.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.75 / neighbours:.3f}")
    platform.configure(args.device, args.devices or _devices_of_a_worker(how),
                       allow_known_bad=args.allow_known_bad)
    with locked(store, shared=True), _stop_flag(patient=True) as should_stop:
        log = own_log(store, args.unit)
        backend = platform.confirm_backend(args.device, args.allow_known_bad, args.devices)
        # Of a machine's memory each takes its share too.
        share = 1 / neighbours if backend == "cpu" else 1.0
        try:
            wrong = work(study, store, make_task, Console(args.quiet), KIND,
                         _options(args, should_stop, share), how, log, args.unit)
        except Interrupted as interrupted:
            print(interrupted)
            return INTERRUPTED
    platform.seal_cache()
    return FAILED if wrong else 0


def _devices_of_a_worker(how: "Launch") -> int | None:
    """The cores of this machine, shared out among its workers."""
    if how.launcher != "local":
        return None
    return max(1, platform.num_cores() // how.num_workers)


def _greet(args: argparse.Namespace, study: Study, console: "Console", how: str) -> None:
    console.note(f"{study.num_runs} runs ({study.num_trained} trained) {how}, into {args.out}")
    if study.left_out:
        console.note(f"not defined, left out: {', '.join(study.left_out)}")
    if args.quick:
        console.note("QUICK: seconds of training, not a result")


def _options(
    args: argparse.Namespace, should_stop: Callable[[], bool], memory_share: float = 1.0
) -> "Options":
    from jaxgen.running.session import Options

    return Options(
        vmap_seeds=args.vmap_seeds, checkpoint_seconds=args.checkpoint_seconds,
        fresh=args.fresh, should_stop=should_stop, bridge=args.bridge,
        max_lanes=args.lanes_per_program, num_devices=args.devices, memory_share=memory_share,
    )  # fmt: skip


def _sinks(args: argparse.Namespace, store: Store) -> list["Sink"]:
    """The writers that are asked for."""
    if not (args.tensorboard or args.wandb):
        return []
    from jaxgen.running.watching.sinks import make_sinks

    return make_sinks(store.root, args.tensorboard, args.wandb)


@contextmanager
def _watched(
    console: "Console", sinks: Sequence["Sink"], store: Store, study: Study
) -> Iterator["Reporter"]:
    """A reporter that tells the console, and the writers.

    Workers train without them: their launcher writes what is done when they have ended.
    """
    if not sinks:
        yield console
        return
    from jaxgen.running.watching.reporter import Watched

    with Watched(console, sinks, store, study.lanes) as reporter:
        yield reporter


def _how_to_go_on(args: argparse.Namespace) -> str:
    without = " without --fresh" if args.fresh else ""
    return f"the same command{without} goes on from the last checkpoint"


@contextmanager
def _stop_flag(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM sets a flag, which is read between chunks; a second one stops at once.

    A patient process, a worker, is told by SIGTERM, or by SIGUSR2 that its time is nearly up, as
    often as may be; Ctrl-C is for its launcher.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1 and not patient:
            raise KeyboardInterrupt
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this chunk (again: at once)\n")

    signals = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if patient:
        signals |= {signal.SIGINT: signal.SIG_IGN, signal.SIGUSR2: handle}
    handlers = {number: signal.signal(number, own) for number, own in signals.items()}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _conclude(args: argparse.Namespace, store: Store, study: Study) -> None:
    """Write all tables and figures, print the summary and where everything is."""
    from jaxgen.running.kinds.matrix import KIND
    from jaxgen.running.workers.units import expected_runs

    plan = expected_runs(study)
    for line in KIND.derive(store, plan, not args.no_plots):
        print(f"damaged, not read: {line}", file=sys.stderr)
    print(store.path("experiment_summary.txt").read_text())
    for name, what in (
        ("experiment_summary.md", "tables"), ("results.csv", "a row per run, level and mode"),
        ("plots", "figures"), ("best_models", "agents: jaxgen.load_agent"), ("runs", "raw results"),
    ):
        if store.path(name).exists():
            print(f"  {what:32s} {store.path(name)}")


if __name__ == "__main__":
    sys.exit(main())

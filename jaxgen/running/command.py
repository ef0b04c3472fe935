"""A command line that runs a study: train here, start workers, be one, or tell the state.

Nothing here imports JAX before it is needed, so that plans, refusals and tables come at once.
"""

import argparse
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxgen.results.lock import locked
from jaxgen.results.store import Store, open_store
from jaxgen.running.flags import launch_of
from jaxgen.running.kinds.base import Kind
from jaxgen.running.workers.settings import Launch
from jaxgen.running.workers.units import plan_digest
from jaxgen.study.estimate import describe_plan
from jaxgen.study.product import Study
from jaxgen.system import platform
from jaxgen.system.compilation import seal_cache
from jaxgen.system.errors import BadInput
from jaxgen.system.files import NO_SPACE, DamagedFile

if TYPE_CHECKING:
    from jaxgen.running.reporter import Reporter
    from jaxgen.running.session import Options
    from jaxgen.running.watching.console import Console
    from jaxgen.running.watching.rows import Sink
    from jaxgen.running.workers.units import Unit

FAILED, BAD_INPUT, DISK_FULL, INTERRUPTED = 1, 2, 74, 130
"""Exit codes besides 0: something of the study failed; it cannot be done as asked; the disk is
full; stopped on request. What was computed until then is kept in each case."""

NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What `OSError.errno` says of a file that is another user's, or of a disk that only reads."""

MEMORY_SHARE = 0.75
"""The part of a GPU's memory that local workers take together, as one process takes of it."""


class Command(NamedTuple):
    """A script with the words that it was started with."""

    script: Path
    """The absolute path; a worker is started by it too."""
    argv: Sequence[str]
    args: argparse.Namespace
    """The words as flags, those of `jaxgen.running.flags` among them, and ``quick``."""
    make_study: Callable[[argparse.Namespace], Study]
    kind: Kind
    make_task: Callable[..., Any]
    """(registry name, **options) -> Task."""
    remark: Callable[[argparse.Namespace], str | None]
    """Something that a person should know of the study, printed first; None: nothing."""

    @property
    def how_to_go_on(self) -> str:
        """Words for a person whose study has stopped."""
        without = " without --fresh" if self.args.fresh else ""
        return f"the same command{without} goes on from the last checkpoint"

    def complain(self, text: str) -> None:
        """Print a line to the error stream."""
        print(f"{self.script.name}: {text}", file=sys.stderr)


def run(command: Command) -> int:
    """Do what a command line asks for; the exit code says how it went, see `FAILED`.

    Raises:
      RuntimeError: a check that no input should fail has failed.
    """
    try:
        return _run(command)
    except (BadInput, DamagedFile) as error:
        command.complain(str(error))
        return BAD_INPUT
    except ValueError as error:
        raise RuntimeError(f"the study failed; what was done is kept: {error}") from error
    except OSError as error:
        if error.errno in NO_SPACE:
            command.complain(f"the disk is full ({error}): make room; {command.how_to_go_on}")
            return DISK_FULL
        if error.errno in NO_ACCESS and error.filename is not None:
            command.complain(
                f"{error.filename} cannot be written or read ({error.strerror}); mend its owner or "
                f"its mode, or give another folder; then {command.how_to_go_on}"
            )
            return BAD_INPUT
        raise
    except KeyboardInterrupt:
        command.complain(f"stopped at once; {command.how_to_go_on}")
        return INTERRUPTED


def _run(command: Command) -> int:
    args = command.args
    if args.status:
        from jaxgen.running.workers.status import status_text

        print(status_text(open_store(args.status, create=False)))
        return 0
    if args.evaluate:
        return _evaluate(command)
    study, how = command.make_study(args), launch_of(args)
    if not args.worker and (remark := command.remark(args)):
        print(remark)
    if args.list:
        print(plan_digest(study) if args.worker else describe_plan(study))
        return 0
    if args.analyze:
        store = open_store(args.out, create=False)
        with locked(store):
            _conclude(command, study, store)
        return 0
    if args.worker:
        return _work(command, study, how)
    if how.isolated or how.launcher != "inline":
        return _launch(command, study, how)
    configure(args)
    store = open_store(args.out)
    with locked(store):
        return _train(command, study, store)


def configure(args: argparse.Namespace) -> None:
    """Set up JAX as a command line asks for it; again, later: nothing.

    Raises:
      BadInput: flags exclude each other, or a value is not allowed.
    """
    devices, neighbours = args.devices, _neighbours(launch_of(args)) if args.worker else 1
    if neighbours > 1:
        # Each takes its share of a GPU as soon as it starts.
        share = f"{MEMORY_SHARE / neighbours:.3f}"
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", share)
        devices = devices or max(1, platform.num_cores() // neighbours)
    platform.configure(args.device, devices, allow_known_bad=args.allow_known_bad)


# In this process


def _train(command: Command, study: Study, store: Store) -> int:
    from jaxgen.running.runner import run_study
    from jaxgen.running.session import Interrupted
    from jaxgen.running.watching.console import Console
    from jaxgen.running.workers.units import write_plan

    began, args = time.perf_counter(), command.args
    backend = platform.confirm_backend(args.device, args.allow_known_bad, args.devices)
    console = Console(args.quiet, args.verbose)
    _check_code(command, study, store)
    _greet(command, study, store, console, f"on {backend}")
    write_plan(store, study)
    sinks = _sinks(args, store)
    try:
        with stop_flag() as should_stop, _watched(console, sinks, store, study) as reporter:
            options = _options(args, should_stop)
            run_study(study, store, command.make_task, reporter, command.kind, options)
    except Interrupted as interrupted:
        console.note(f"{interrupted}; {command.how_to_go_on}")
        return INTERRUPTED
    seal_cache()
    _conclude(command, study, store)
    print(f"Finished in {time.perf_counter() - began:.0f} s")
    return 0


def _evaluate(command: Command) -> int:
    """Let all agents of a folder play again."""
    args = command.args
    store = open_store(args.evaluate, create=False)
    configure(args)
    platform.confirm_backend(args.device, args.allow_known_bad, args.devices)
    from jaxgen.running.evaluating import Asked, evaluate_store

    asked = Asked(tuple(args.levels), args.episodes, args.per_episode)
    with locked(store):
        found = evaluate_store(store, command.make_task, asked)
    for line in found.left_aside:
        print(f"left aside: {line}", file=sys.stderr)
    print("\n".join([*found.lines, "", *found.files]))
    return 0


# In workers


def _launch(command: Command, study: Study, how: Launch) -> int:
    """Train in workers."""
    from jaxgen.running.session import Interrupted
    from jaxgen.running.watching.console import Console
    from jaxgen.running.workers.coordinate import planned, wait_alone, what_failed
    from jaxgen.running.workers.launch import check_workers, make_executor, worker_command
    from jaxgen.running.workers.units import JOBS

    began, args = time.perf_counter(), command.args
    console, store = Console(args.quiet, args.verbose), open_store(args.out)
    # What can be refused is refused before anything is discarded.
    sinks = _sinks(args, store)
    executor = None
    if not how.isolated:
        executor = make_executor(how.launcher, store.path(JOBS), how.settings)
    _check_code(command, study, store)
    words = worker_command(command.script, command.argv, store.root)
    check_workers(words, command.script, study)
    with planned(study, store, command.kind, how, args.fresh, console.note) as (lock, units):
        try:
            with _watched(console, sinks, store, study):
                _coordinate(command, study, store, how, executor, units, words, console)
        except Interrupted as interrupted:
            console.note(f"{interrupted}; {command.how_to_go_on}")
            return INTERRUPTED
        wait_alone(lock, console.note)
        failed = what_failed(units, store, how)
        missing = _num_missing(store, study)
        _conclude(command, study, store)
    if missing:
        command.complain(
            f"{missing} of {study.num_trained} runs are not done; {command.how_to_go_on}"
        )
    print(f"Finished in {time.perf_counter() - began:.0f} s")
    return FAILED if failed or missing else 0


def _coordinate(
    command: Command, study: Study, store: Store, how: Launch, executor: Any,
    units: Sequence["Unit"], words: Sequence[str], console: "Console",
) -> None:
    """Start workers, wait for them, and say what went wrong; Interrupted: a stop was asked for."""
    from jaxgen.running.session import Interrupted
    from jaxgen.running.workers.coordinate import coordinate

    where = "one program after the other" if how.isolated else f"{how.num_workers} {how.launcher}"
    _greet(command, study, store, console, f"in workers ({where}), {len(units)} units")
    with stop_flag() as should_stop:
        for line in coordinate(units, store, how, executor, words, console.view, should_stop):
            command.complain(line)
        if should_stop():
            raise Interrupted("stopped")


def _num_missing(store: Store, study: Study) -> int:
    return sum(not store.is_done(spec.name, seed) for spec, seed in study.lanes)


def _work(command: Command, study: Study, how: Launch) -> int:
    """Be a worker: a process that a launcher has started, here or on another machine."""
    from jaxgen.running.session import Interrupted, Session
    from jaxgen.running.watching.console import Console
    from jaxgen.running.workers.coordinate import work
    from jaxgen.running.workers.worker import own_log

    args = command.args
    store = open_store(args.out, create=False)
    configure(args)
    neighbours = _neighbours(how)
    with locked(store, shared=True), stop_flag(patient=True) as should_stop:
        log = own_log(store, args.unit)
        backend = platform.confirm_backend(args.device, args.allow_known_bad, args.devices)
        # Of a machine's memory each takes its share too.
        options = _options(args, should_stop, 1 / neighbours if backend == "cpu" else 1.0)
        console = Console(args.quiet, args.verbose)
        session = Session(
            store, command.make_task, options, console, command.kind, {}, alone=False
        )
        try:
            wrong = work(session, study, how, log, args.unit)
        except Interrupted as interrupted:
            print(interrupted)
            return INTERRUPTED
    seal_cache()
    return FAILED if wrong else 0


def _neighbours(how: Launch) -> int:
    """Workers with which one shares its machine, itself among them."""
    return how.num_workers if how.launcher == "local" else 1


# What all of them share


def _greet(
    command: Command, study: Study, store: Store, console: "Console", how: str
) -> None:
    args = command.args
    done = 0 if args.fresh else study.num_trained - _num_missing(store, study)
    aliases = study.num_runs - study.num_trained
    copies = f", {aliases} aliases" if aliases else ""
    before = f", {done} done before" if done else ""
    todo = study.num_trained - done
    runs = "run" if todo == 1 else "runs"
    console.note(f"{todo} {runs} to train{before}{copies}, {how}, into {args.out}")
    is_step = command.kind.derive is None
    if todo and not is_step and (others := _num_of_other_settings(store, study)):
        console.note(
            f"{others} runs of these arms here have another budget or other settings; they stay, "
            "and nothing goes on from them"
        )
    if study.left_out:
        console.note(f"not defined, left out: {', '.join(study.left_out)}")
    if args.quick:
        console.note("QUICK: seconds of training, not a result")


def _num_of_other_settings(store: Store, study: Study) -> int:
    """Runs of the study's cells, by name, that are none of its runs."""
    specs = [spec for group in study.groups for spec in (*group.specs, *group.aliases)]
    planned, cells = {spec.name for spec in specs}, {spec.experiment for spec in specs}
    names = set(store.run_names()) - planned
    return sum(name.rpartition("-")[0] in cells for name in names)


def _check_code(command: Command, study: Study, store: Store) -> None:
    """Refuse to add seeds to those of other code, unless that is what was asked for."""
    if not (command.args.fresh or command.args.accept):
        from jaxgen.results.code import check_code

        check_code(study, store)


def _options(
    args: argparse.Namespace, should_stop: Callable[[], bool], memory_share: float = 1.0
) -> "Options":
    from jaxgen.running.session import Options

    return Options(
        vmap_seeds=args.vmap_seeds, checkpoint_seconds=args.checkpoint_seconds,
        fresh=args.fresh, should_stop=should_stop, bridge=args.bridge,
        max_lanes=args.lanes_per_program, num_devices=args.devices, memory_share=memory_share,
        keep_agents=args.agents,
    )  # fmt: skip


def _sinks(args: argparse.Namespace, store: Store) -> list["Sink"]:
    """Open the writers that are asked for."""
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


@contextmanager
def stop_flag(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Set a flag on Ctrl-C or SIGTERM, to be read between chunks; a second one stops at once.

    The end of a terminal, SIGHUP, sets it too, as often as it is told, unless nohup has asked to
    ignore it. A patient process, a worker, is told by SIGTERM, or by SIGUSR2 that its time is
    nearly up, as often as may be; Ctrl-C and terminals are for its launcher.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1 and not patient and number != signal.SIGHUP:
            raise KeyboardInterrupt
        # Not print: the signal may have come in the middle of one.
        with suppress(OSError):
            os.write(2, b"\nstopping after this chunk (again: at once)\n")

    signals = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if patient:
        signals |= dict.fromkeys((signal.SIGINT, signal.SIGHUP), signal.SIG_IGN)
        signals |= {signal.SIGUSR2: handle}
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals |= {signal.SIGHUP: handle}
    before = {number: signal.signal(number, handler) for number, handler in signals.items()}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _conclude(command: Command, study: Study, store: Store) -> None:
    """Write all tables and figures, print what was found in short and where everything is."""
    from jaxgen.running.workers.units import expected_runs

    if command.kind.derive is None:
        return
    plan = expected_runs(study)
    derived = command.kind.derive(store, plan, not command.args.no_plots)
    for line in derived.left_aside:
        print(f"left aside: {line}", file=sys.stderr)
    print("\n".join(derived.lines), end="\n\n")
    for name, what in (
        ("experiment_summary.md", "all tables"), ("results.csv", "a row per run, level and mode"),
        ("plots", "figures"), ("best_models", "agents: jaxgen.load_agent"),
        ("runs", "raw results, with every agent"),
    ):
        if store.path(name).exists():
            # As it was asked for: a relative path stays one.
            print(f"  {what:32s} {Path(command.args.out) / name}")

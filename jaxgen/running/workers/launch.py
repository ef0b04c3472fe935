"""Start workers, and wait until the units of a plan are over.

Workers are processes that run the same command line as their launcher, with ``--worker``. On this
machine and on a SLURM cluster submitit starts them; ``--isolated`` starts one after the other, each
for a single unit, so that a crash or a lack of memory costs that unit only. What is done and what
failed is read from the claims: whether a job ended well says nothing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from jaxgen.running.workers.claims import FAILED, RUNNING, Attempt, Claims
from jaxgen.running.workers.settings import Launcher
from jaxgen.running.workers.units import Unit, plan_digest
from jaxgen.running.workers.view import failures, progress_lines, taken_over
from jaxgen.running.workers.worker import is_over
from jaxgen.study.product import Study
from jaxgen.system.errors import BadInput

POLL_SECONDS = 1.0
QUEUE_SECONDS = 5.0
"""Least time between two questions to a cluster's queue, or two requests to stop."""
MINUTES = {"local": 60 * 24 * 365, "slurm": 240}
"""The limit of a worker's time where ``--submit timeout_min=N`` gives none: local workers need
none, and on a cluster the same command goes on where time ran out."""
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)
INSTALL = 'pip install "submitit>=1.5,<2"'


class Workers(Protocol):
    """Processes that were started."""

    def num_alive(self) -> int:
        """How many of them run, or wait for a machine."""
        ...

    def replace(self, number: int) -> int:
        """Start so many anew, where they died on this machine; returns how many were started."""
        ...

    def cancel(self) -> None:
        """Ask all of them to stop; may be called again and again, as they may not hear it."""
        ...

    def withdraw(self) -> None:
        """Take back those that still wait for a machine."""
        ...

    def logs(self) -> list[Path]:
        """The files that they print into, also before they can write logs of their own."""
        ...


class SubmititWorkers:
    """Workers that submitit started."""

    def __init__(self, launcher: Launcher, jobs: list[Any], start: Callable[[int], list[Any]]):
        self._launcher, self._jobs, self._start = launcher, jobs, start
        self._num_left = len(jobs)
        self._asked, self._num_queued = -QUEUE_SECONDS, len(jobs)
        self._told = -QUEUE_SECONDS

    def num_alive(self) -> int:
        """How many jobs have not ended."""
        if self._launcher == "local":
            return sum(not job.done() for job in self._jobs)
        # The queue is asked itself: submitit asks for accounts, which not every cluster keeps, and
        # without them never learns of a job that was cancelled.
        if time.monotonic() - self._asked >= QUEUE_SECONDS:
            self._asked = time.monotonic()
            self._num_queued = _num_queued([job.job_id for job in self._jobs], self._num_queued)
        return self._num_queued

    def replace(self, number: int) -> int:
        """Start so many anew; of a cluster's jobs none, and not more than there were at first, so
        that what kills every worker comes to an end."""
        number = min(number, self._num_left) if self._launcher == "local" else 0
        if number:
            self._num_left -= number
            self._jobs = [*self._jobs, *self._start(number)]
        return number

    def cancel(self) -> None:
        """Ask all jobs to stop: by SIGTERM alone, with time to write a checkpoint.

        Submitit's own cancellation is another signal here, and kills soon after on a cluster.
        """
        if self._launcher == "local":
            for job in self._jobs:
                # The number of a process that is known to have ended may be another's.
                if not job.done():
                    with suppress(ProcessLookupError):
                        os.kill(int(job.job_id), signal.SIGTERM)
        elif time.monotonic() - self._told >= QUEUE_SECONDS:
            self._told = time.monotonic()
            self.withdraw()
            self._scancel("--state=RUNNING", "--signal=TERM")

    def withdraw(self) -> None:
        """Take back the jobs that still wait for a machine."""
        if self._launcher == "slurm":
            self._scancel("--state=PENDING")

    def _scancel(self, *which: str) -> None:
        words = ["scancel", "--quiet", *which, *(job.job_id for job in self._jobs)]
        subprocess.run(words, capture_output=True)

    def logs(self) -> list[Path]:
        """The error stream of each job."""
        return [Path(job.paths.stderr) for job in self._jobs]


def _num_queued(ids: Sequence[str], last: int) -> int:
    """How many of these jobs wait or run; where the cluster does not answer, as many as last."""
    words = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(ids)}"]
    answer = subprocess.run(words, capture_output=True, text=True)
    if answer.returncode == 0:
        return len(answer.stdout.split())
    # What it has forgotten has ended long ago.
    return 0 if "Invalid job id" in answer.stderr else last


def make_executor(launcher: Launcher, folder: Path, settings: Mapping[str, Any]) -> Any:
    """Submitit's executor; nothing is started.

    Args:
      launcher: local or slurm.
      folder: of submitit's own files.
      settings: parameters of the executor, e.g. ``timeout_min``, ``slurm_partition``.

    Raises:
      ValueError: submitit is missing or knows no such setting, or there is no such cluster.
    """
    try:
        import submitit
    except ImportError:
        raise BadInput(
            f"--launcher {launcher} needs the package submitit; install it: {INSTALL}"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=launcher)
        defaults = {"name": "jaxgen", "timeout_min": MINUTES[launcher]}
        executor.update_parameters(**defaults | dict(settings))
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise BadInput(f"--launcher {launcher}: {error}") from error
    return executor


def start(
    executor: Any, launcher: Launcher, command: Sequence[str], num_workers: int
) -> SubmititWorkers:
    """Start workers, each of them with the same command.

    Raises:
      ValueError: the cluster refuses them.
    """
    words = [*(_own_gpus() if launcher == "local" else ()), *command]

    def jobs(number: int) -> list[Any]:
        # Ctrl-C and the end of a terminal, which local jobs share, are their launcher's to deal
        # with.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _OF_THE_TERMINAL}
        try:
            # In the place of submitit's process: signals reach the worker itself.
            return executor.map_array(os.execvp, *zip(*[(words[0], words)] * number, strict=True))
        except RuntimeError as error:
            raise BadInput(f"--launcher {launcher}: {error}") from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return SubmititWorkers(launcher, jobs(num_workers), jobs)


def _own_gpus() -> list[str]:
    """Begins a command that sees the GPUs of this process: submitit hides them from local jobs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return ["env", *(["-u", "CUDA_VISIBLE_DEVICES"] if visible is None
                     else [f"CUDA_VISIBLE_DEVICES={visible}"])]  # fmt: skip


def wait(
    units: Sequence[Unit], claims: Claims, workers: Workers, logs: Path,
    tell: Callable[[list[str]], None], should_stop: Callable[[], bool],
) -> list[str]:
    """Watch workers until every unit is over; returns what went wrong, in words.

    Where something is raised, they are asked to stop.

    Args:
      units: of the plan.
      claims: which worker has which unit.
      workers: what was started.
      logs: the folder of the workers' own logs.
      tell: is given the lines of the view, again and again.
      should_stop: asked all the time; if it says so, the workers are asked to stop.
    """
    replaced: list[str] = []
    try:
        stopping = _watch(units, claims, workers, tell, should_stop, replaced)
    except BaseException:
        workers.cancel()
        raise
    attempts = claims.attempts()
    wrong = [*replaced, *taken_over(units, attempts), *failures(units, attempts)]
    left = [unit for unit in units if not is_over(attempts.get(unit.name))]
    if not left:
        workers.withdraw()
    elif not stopping:
        wrong += died(left, attempts)
        paths = ", ".join(str(path) for path in workers.logs()[:3])
        wrong.append(
            f"no worker is left, and {len(left)} units are not done (the first: {left[0].name}); "
            f"what they printed: {paths}, and in {logs}"
        )
    return wrong


def _watch(
    units: Sequence[Unit], claims: Claims, workers: Workers, tell: Callable[[list[str]], None],
    should_stop: Callable[[], bool], replaced: list[str],
) -> bool:
    """Wait until every unit is over, or no worker is left; whether they were asked to stop.

    Workers that died are replaced, and words about that are added to the last argument.
    """
    stopping, most = False, workers.num_alive()
    while True:
        attempts, num_alive = claims.attempts(), workers.num_alive()
        left = [unit for unit in units if not is_over(attempts.get(unit.name))]
        if left and not stopping and not full_disk(units, attempts):
            # A worker that finds nothing to take waits for the others.
            num_dead = min(most, len(left)) - num_alive
            if num_dead > 0 and (number := workers.replace(num_dead)):
                replaced.append(f"{number} of {most} workers died and were replaced")
                num_alive += number
        tell(progress_lines(units, attempts, num_alive, claims.silence))
        if not left or not num_alive:
            return stopping
        if should_stop():
            # Again and again: what is just starting does not hear it.
            stopping = True
            workers.cancel()
        time.sleep(POLL_SECONDS)


def run_isolated(
    units: Sequence[Unit], claims: Claims, command: Sequence[str], log_of: Callable[[Unit], Path],
    tell: Callable[[list[str]], None], should_stop: Callable[[], bool],
) -> list[str]:
    """Run each unit in a process of its own, one after the other; returns what went wrong.

    Arguments as of `wait`; the command is extended by ``--unit NAME``, and what it prints goes into
    the log. Once the disk is full, no further unit is begun.
    """
    for unit in units:
        if should_stop() or full_disk(units, claims.attempts()):
            break
        log = log_of(unit)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [*command, "--unit", unit.name], stdout=stream, stderr=stream,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                stopping = _attend(process, units, claims, tell, should_stop)
            except BaseException:
                process.terminate()
                raise
        if not stopping:
            _bury(unit, claims, process.returncode, log)
    tell(progress_lines(units, claims.attempts(), 0))
    return failures(units, claims.attempts())


def _attend(
    process: subprocess.Popen[bytes], units: Sequence[Unit], claims: Claims,
    tell: Callable[[list[str]], None], should_stop: Callable[[], bool],
) -> bool:
    """Wait until a process ends; whether it was asked to."""
    stopping = False
    while process.poll() is None:
        tell(progress_lines(units, claims.attempts(), 1))
        if should_stop():
            stopping = True
            process.terminate()
        time.sleep(POLL_SECONDS)
    return stopping


def died(units: Sequence[Unit], attempts: Mapping[str, Attempt]) -> list[str]:
    """The units that workers have left without a word, in words."""
    words = []
    for unit in units:
        last = attempts.get(unit.name)
        if last is not None and last.state == RUNNING:
            words.append(
                f"{unit.name} ({len(unit.lanes)} runs): its worker {last.worker} ended without a "
                "word, killed perhaps for its memory, unless another command started it; its log: "
                f"{last.report.get('log', 'unknown')}; try --isolated, which gives each program a "
                "process of its own"
            )
    return words


def full_disk(units: Sequence[Unit], attempts: Mapping[str, Attempt]) -> str | None:
    """The words of the worker that gave back a unit because the disk is full; None: none did."""
    lasts = [attempts[unit.name] for unit in units if unit.name in attempts]
    return next((last.report["full"] for last in lasts if "full" in last.report), None)


def _bury(unit: Unit, claims: Claims, returncode: int, log: Path) -> None:
    """Put down as failed what a process that has ended did not finish."""
    last = claims.attempts().get(unit.name)
    if is_over(last) or (last is not None and "full" in last.report):
        return
    how = f"its process ended with exit code {returncode}"
    if returncode < 0:
        how = f"its process was killed by signal {-returncode}"
        if returncode == -9:
            how += ", perhaps for its memory"
    claim = claims.inherit(unit.name, last)
    claim.write(FAILED, error=how, log=str(log))


def check_workers(command: Sequence[str], script: Path, study: Study) -> None:
    """Refuse a study that workers would not know as it is known here.

    They run the script alone: what another script or a notebook has registered, or changed, before
    it called the script's main is unknown to them.

    Args:
      command: of a worker.
      script: that it runs.
      study: as it is known here.
    """
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is not None and Path(main).resolve() == script:
        return
    words = [*command, "--list"]
    plan = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if plan.stdout.strip() != plan_digest(study):
        said = plan.stderr.strip().splitlines()
        why = said[-1] if said else f"there, {script.name} plans other runs"
        raise BadInput(
            f"workers start {script}, which does not know this study ({why}); register what it "
            "needs in a copy of that script and start the copy, or train without workers"
        )


def worker_command(script: Path, argv: Sequence[str], out: Path) -> list[str]:
    """The command line of a worker: that of its launcher, but for what concerns the launcher."""
    return [sys.executable, str(script), *argv, "--out", str(out.absolute()), "--worker"]

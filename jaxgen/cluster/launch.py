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

from jaxgen.cluster.claims import FAILED, Claims
from jaxgen.cluster.settings import Launcher
from jaxgen.cluster.units import Unit
from jaxgen.cluster.view import failures, progress_lines
from jaxgen.cluster.worker import is_over

POLL_SECONDS = 1.0
QUEUE_SECONDS = 5.0
"""Between two questions to a cluster's queue."""
MINUTES = {"local": 60 * 24 * 365, "slurm": 240}
"""The limit of a worker's time where ``--submit timeout_min=N`` gives none: local workers need
none, and on a cluster the same command goes on where time ran out."""


class Workers(Protocol):
    """Processes that were started."""

    def num_alive(self) -> int:
        """How many of them run, or wait for a machine."""
        ...

    def cancel(self) -> None:
        """Ask all of them to stop."""
        ...

    def logs(self) -> list[Path]:
        """Where what they print goes, also before they can write a log of their own."""
        ...


class SubmititWorkers:
    """Workers that submitit started."""

    def __init__(self, launcher: Launcher, jobs: list[Any]):
        self._launcher, self._jobs = launcher, jobs
        self._asked, self._num_queued = -QUEUE_SECONDS, len(jobs)

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

    def cancel(self) -> None:
        """Ask all jobs to stop: by SIGTERM, which submitit's own local cancellation is not."""
        for job in self._jobs:
            if self._launcher == "local":
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)
            else:
                job.cancel(check=False)

    def logs(self) -> list[Path]:
        """What each job printed to its error stream."""
        return [Path(job.paths.stderr) for job in self._jobs]


def _num_queued(ids: Sequence[str], last: int) -> int:
    """How many of these jobs wait or run; where the cluster does not answer, as many as last."""
    words = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(ids)}"]
    found = subprocess.run(words, capture_output=True, text=True)
    if found.returncode == 0:
        return len(found.stdout.split())
    # What it has forgotten has ended long ago.
    return 0 if "Invalid job id" in found.stderr else last


def submit(
    launcher: Launcher, command: Sequence[str], num_workers: int, folder: Path,
    settings: Mapping[str, Any],
) -> SubmititWorkers:
    """Start workers through submitit.

    Args:
      launcher: local or slurm.
      command: of each worker.
      num_workers: how many.
      folder: of submitit's own files.
      settings: parameters of submitit's executor, e.g. ``timeout_min``, ``slurm_partition``.

    Raises:
      ValueError: submitit is missing or knows no such setting, or there is no such cluster.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(
            f"--launcher {launcher} needs the package submitit; install it: "
            'pip install "jaxgen[cluster]"'
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=launcher)
        defaults = {"name": "jaxgen", "timeout_min": MINUTES[launcher]}
        executor.update_parameters(**defaults | dict(settings))
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise ValueError(f"--launcher {launcher}: {error}") from error
    words = [*(_own_gpus() if launcher == "local" else ()), *command]
    # Ctrl-C of a terminal, which local jobs share, is their launcher's to deal with.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # In the place of submitit's process: signals reach the worker itself.
        jobs = executor.map_array(os.execvp, *zip(*[(words[0], words)] * num_workers, strict=True))
    finally:
        signal.signal(signal.SIGINT, handler)
    return SubmititWorkers(launcher, jobs)


def _own_gpus() -> list[str]:
    """Begins a command that sees the GPUs of this process: submitit hides them from local jobs."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return ["env", *(["-u", "CUDA_VISIBLE_DEVICES"] if shown is None
                     else [f"CUDA_VISIBLE_DEVICES={shown}"])]  # fmt: skip


def wait(
    units: Sequence[Unit], claims: Claims, workers: Workers, tell: Callable[[list[str]], None],
    should_stop: Callable[[], bool],
) -> list[str]:
    """Watch workers until every unit is over; returns what went wrong, in words.

    Args:
      units: of the plan.
      claims: who works on what.
      workers: what was started.
      tell: is given the lines of the view, again and again.
      should_stop: asked all the time; if it says so, the workers are asked to stop.
    """
    stopping = False
    while True:
        attempts, num_alive = claims.attempts(), workers.num_alive()
        tell(progress_lines(units, attempts, num_alive))
        if all(is_over(attempts.get(unit.name)) for unit in units) or not num_alive:
            break
        if should_stop() and not stopping:
            stopping = True
            workers.cancel()
        time.sleep(POLL_SECONDS)
    attempts = claims.attempts()
    left = [unit for unit in units if not is_over(attempts.get(unit.name))]
    wrong = failures(units, attempts)
    if left and not stopping:
        shown = ", ".join(str(path) for path in workers.logs()[:3])
        wrong.append(
            f"no worker is left, and {len(left)} units are not done (the first: {left[0].name}); "
            f"what they printed: {shown}"
        )
    return wrong


def run_isolated(
    units: Sequence[Unit], claims: Claims, command: Sequence[str], log_of: Callable[[Unit], Path],
    tell: Callable[[list[str]], None], should_stop: Callable[[], bool],
) -> list[str]:
    """Run each unit in a process of its own, one after the other; returns what went wrong.

    Arguments as of `wait`; the command is extended by ``--unit NAME``, and what it prints goes into
    the log.
    """
    for unit in units:
        if should_stop():
            break
        log = log_of(unit)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [*command, "--unit", unit.name], stdout=stream, stderr=stream,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            stopping = False
            while process.poll() is None:
                tell(progress_lines(units, claims.attempts(), 1))
                if should_stop() and not stopping:
                    stopping = True
                    process.terminate()
                time.sleep(POLL_SECONDS)
        if not stopping:
            _bury(unit, claims, process.returncode, log)
    tell(progress_lines(units, claims.attempts(), 0))
    return failures(units, claims.attempts())


def _bury(unit: Unit, claims: Claims, returncode: int, log: Path) -> None:
    """Put down as failed what a process that has ended did not finish."""
    last = claims.attempts().get(unit.name)
    if is_over(last):
        return
    how = f"its process ended with exit code {returncode}"
    if returncode < 0:
        how = f"its process was killed by signal {-returncode}"
        if returncode == -9:
            how += ", perhaps for its memory"
    claim = claims.inherit(unit.name, last)
    claim.write(FAILED, error=how, log=str(log))


def worker_command(script: Path, argv: Sequence[str], out: Path) -> list[str]:
    """The command line of a worker: that of its launcher, but for what concerns the launcher."""
    return [sys.executable, str(script), *argv, "--out", str(out.absolute()), "--worker"]

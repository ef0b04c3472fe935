"""A writer for Weights & Biases."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxgen.running.watching.packages import import_package
from jaxgen.running.watching.rows import Row, Run
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput

WANDB_MODES = ("offline", "online")
WANDB_PROJECT = "jaxgen"
"""The project, unless the environment variable WANDB_PROJECT names another one."""


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
            raise BadInput(f"W&B mode {mode!r} is unknown; use one of {', '.join(WANDB_MODES)}")
        if mode == "offline":
            # Reports on itself W&B sends whatever the mode of a run is.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._root = root
        self._mode = mode
        self._wandb = import_package("wandb", self.name)
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
        """The identifier by which W&B knows a run."""
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
            raise BadInput(f"W&B knows no account to upload to: {error}; {remedy}") from error
        if not known:
            raise BadInput(f"W&B knows no account to upload to; {remedy}")

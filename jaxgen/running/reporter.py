"""The messages of a running study, and their receiver."""

from typing import Protocol

import numpy as np

from jaxgen.study.spec import RunSpec

History = dict[str, np.ndarray]
"""Metrics by name, ``[L, I]``; learning-curve points ``[L, C]``."""
Lane = tuple[RunSpec, int]
"""An arm and a seed."""


class Reporter(Protocol):
    """A receiver of what happens; a command line prints it."""

    def note(self, text: str) -> None:
        """Say something that a person should know."""
        ...

    def stage(self, text: str) -> None:
        """Say what begins now, and may take a while."""
        ...

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        """Say how far a program is, in env steps of all lanes, and at what rate in steps/s."""
        ...

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        """Give the history up to a new point of the learning curves."""
        ...

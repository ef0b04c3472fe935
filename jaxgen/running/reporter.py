"""What a running study tells, and to whom."""

from typing import Protocol

import numpy as np

from jaxgen.study.spec import RunSpec

History = dict[str, np.ndarray]
"""Metrics by name, ``[L, I]``; learning-curve points ``[L, C]``."""
Lane = tuple[RunSpec, int]
"""An arm and a seed."""


class Reporter(Protocol):
    """Who is told what happens; a command line prints it."""

    def note(self, text: str) -> None:
        """Something that a person should know."""
        ...

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        """How far the lanes of a program are, in env steps of all lanes, and steps/s."""
        ...

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        """A point of the learning curves was reached."""
        ...

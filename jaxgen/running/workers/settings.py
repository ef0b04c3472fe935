"""How the processes of a study are started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxgen.system.errors import BadInput

Launcher = Literal["inline", "local", "slurm"]
LAUNCHERS: tuple[Launcher, ...] = ("inline", "local", "slurm")


@dataclass(frozen=True)
class Launch:
    """How workers are started; changes no result."""

    launcher: Launcher = "inline"
    num_workers: int = 1
    isolated: bool = False
    """Each unit, a whole program, in a process of its own."""
    stale_seconds: float = 120.0
    """A worker that shows no sign of life for so long counts as dead."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of submitit's executor."""

    def validate(self) -> None:
        """Raise ValueError where something is not allowed."""
        if not self.stale_seconds >= 1:
            raise BadInput(f"stale seconds {self.stale_seconds!r} are not allowed; use 1 or more")


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` words as a dictionary; whole numbers become such; ValueError on others."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name.isidentifier() and value):
            raise BadInput(f"{word!r} is not allowed; use NAME=VALUE, as in timeout_min=600")
        settings[name] = int(value) if value.isdecimal() else value
    return settings

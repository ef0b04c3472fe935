"""The writers that are asked for."""

from pathlib import Path
from typing import Literal

from jaxgen.running.watching.rows import Sink
from jaxgen.running.watching.tensorboard import TensorBoard
from jaxgen.running.watching.wandb import WandB


def make_sinks(
    root: Path, tensorboard: bool = False, wandb: Literal["offline", "online"] | None = None
) -> list[Sink]:
    """Make the sinks that are asked for, below a results folder.

    Raises:
      ValueError: a package is missing, a mode is unknown, or W&B knows no account to upload to.
    """
    sinks: list[Sink] = []
    if tensorboard:
        sinks.append(TensorBoard(root / "tensorboard"))
    if wandb is not None:
        sinks.append(WandB(root, wandb))
    return sinks

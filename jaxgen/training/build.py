"""Programs of a task, wherever its environment lives.

`make_program` is the one place that asks where that is.
"""

from collections.abc import Sequence
from typing import Any

from jaxgen.evaluation.tasks import check_task
from jaxgen.training.device import make_device_program
from jaxgen.training.host import BridgeKind
from jaxgen.training.host_program import make_host_program
from jaxgen.training.program import Lanes, MakeAlgorithm, Program
from jaxgen.types import HostTask, Task, is_host


def make_program(
    task: Task | HostTask,
    make_algorithm: MakeAlgorithm,
    example: Lanes,
    *,
    study_seed: int = 0,
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
    bridge: BridgeKind | None = None,
) -> Program:
    """Build the program of a task and an algorithm; nothing compiles before the first call.

    Args:
      task: environment and variation table.
      make_algorithm: (config, technique, spec) -> Algorithm, called while tracing.
      example: lanes like those to come, for what is the same in all of them.
      study_seed: root of all keys.
      chunk: the most iterations of one call of ``train``, where an environment in JAX is trained
        on; None: those between two points of the learning curve.
      devices: JAX devices, over which the lanes of such an environment are split; None: all.
      bridge: how an environment on the host is stepped; None: by a callback, or where it shows
        numbers step by step.

    Raises:
      BadInput: the task is not as its protocol says.
    """
    check_task(task)
    if is_host(task):
        bridge = bridge or ("callback" if task.spec.is_image else "steps")
        return make_host_program(
            task, make_algorithm, example, study_seed=study_seed, bridge=bridge, devices=devices
        )
    chunk = example.config.curve_iterations if chunk is None else chunk
    return make_device_program(
        task, make_algorithm, study_seed=study_seed, chunk=chunk, devices=devices
    )

"""The training loop: content, chunks and the end of the budget, for every caller.

A caller that stores, evaluates or reports does so between two steps of `iterate`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.study.config import Config
from jaxgen.training.program import Carry, Lanes, Program, World, has_budget
from jaxgen.training.segments import Segment, segments
from jaxgen.types import Array, PyTree

Train = Callable[[Lanes, Carry, PyTree, Any, Any], tuple[Carry, dict[str, Any]]]
"""A function with the arguments of `Program.train`."""


class Start(NamedTuple):
    """A state from which training goes on."""

    iteration: int
    """The next one."""
    carry: Carry
    """On the devices, with a lane for each of the program's."""
    worlds: Sequence[tuple[int | None, World]] = ()
    """What `Program.freeze` gave of the environment, by lane; None: of all of them."""


class Step(NamedTuple):
    """What one call of the compiled program did."""

    segment: Segment
    """Its iterations."""
    carry: Carry
    """After the last of them; the next step consumes it."""
    metrics: dict[str, Any]
    """As ``train`` returned them."""
    content: PyTree
    """What the lanes were trained on."""
    fresh: bool
    """Whether ``content`` is another one than that of the step before."""
    finished: bool
    """Whether nothing is left to train."""


def iterate(
    program: Program, lanes: Lanes, start: Start | None = None, train: Train | None = None,
    stops: Collection[int] = (),
) -> Iterator[Step]:
    """Train lanes to the end of their budget, a step for each call of the compiled program.

    Args:
      program: what trains them.
      lanes: padded, see `jaxgen.training.fit.padded`.
      start: where to go on; None: at the first iteration.
      train: what is called in place of ``program.train``, for those who compile ahead or time it.
      stops: numbers of iterations after which a step ends, whatever the chunk.

    Yields:
      Steps; none where ``start`` is the end.
    """
    train = program.train if train is None else train
    iteration, carry, worlds = (0, None, ()) if start is None else start
    if carry is not None and is_finished(lanes.config, iteration, carry.env_steps):
        return
    content = None
    cuts = segments(lanes.config, program.refresh_steps, program.chunk, iteration, stops)
    for segment in cuts:
        fresh = content is None or segment.fresh_content
        if fresh:
            content = program.content(lanes, np.int32(segment.epoch))  # pyright: ignore
        if carry is None:
            carry = program.init(lanes, content)
        elif segment.start == iteration:
            for lane, world in worlds:
                program.thaw(content, world, lane)
        first, last = np.int32(segment.start), np.int32(segment.stop)
        carry, metrics = train(lanes, carry, content, first, last)
        finished = is_finished(lanes.config, segment.stop, carry.env_steps)
        yield Step(segment, carry, metrics, content, fresh, finished)
        if finished:
            return


def is_finished(config: Config, iteration: int, env_steps: Array | np.ndarray) -> bool:
    """Whether all lanes rest: at the last iteration, or as the budget of each is used before.

    Args:
      config: of the lanes.
      iteration: the next one.
      env_steps: of each lane so far, int32 ``[L]``.
    """
    if iteration >= config.num_iterations:
        return True
    return not has_budget(config.total_steps, np.asarray(env_steps)).any()

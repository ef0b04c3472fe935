"""The training loop: content, chunks and the end of the budget, for every caller.

A caller that stores, evaluates or reports does so between two steps of `iterate`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.study.config import Config
from jaxgen.training.program import Carry, HostState, Lanes, Program, has_budget
from jaxgen.training.segments import Segment, segments
from jaxgen.types import Array, PyTree

Train = Callable[[Lanes, Carry, PyTree, Any, Any], tuple[Carry, dict[str, Any]]]
"""A function with the arguments of `LaneLearner.train`."""

Begin = Callable[[Lanes, Carry], Carry]
"""(lanes, carry before the first iteration) -> the carry that training begins with."""


class Start(NamedTuple):
    """A state from which training goes on."""

    iteration: int
    """The next one."""
    carry: Carry
    """The carry as `World.save` gave it, with a lane for each of the program's."""
    host_states: Sequence[tuple[int | None, HostState]] = ()
    """What it gave of an environment on the host, by lane; None: of all of them."""


class Step(NamedTuple):
    """The outcome of one call of the compiled program."""

    segment: Segment
    """Its iterations."""
    carry: Carry
    """The carry after the last of them; the next step consumes it."""
    metrics: dict[str, Any]
    """Metrics as ``train`` returned them."""
    content: PyTree
    """What the lanes were trained on."""
    fresh: bool
    """Whether ``content`` is another one than that of the step before."""
    finished: bool
    """Whether nothing is left to train."""


def iterate(
    program: Program, lanes: Lanes, start: Start | None = None, train: Train | None = None,
    stops: Collection[int] = (), begin: Begin | None = None,
) -> Iterator[Step]:
    """Train lanes to the end of their budget, a step for each call of the compiled program.

    Args:
      program: what trains them.
      lanes: padded, see `jaxgen.training.fit.padded`.
      start: where to go on; None: at the first iteration.
      train: what is called in place of the learner's own, to compile it ahead or to time it.
      stops: numbers of iterations after which a step ends, whatever the chunk.
      begin: changes the carry before the first iteration; None: it stays as it is.

    Yields:
      Steps; none where ``start`` is the end.
    """
    world, learner = program.world, program.learner
    train = learner.train if train is None else train
    iteration = 0 if start is None else start.iteration
    if start is not None and is_finished(lanes.config, iteration, start.carry.env_steps):
        return
    content, chunk = None, program.capacity.chunk
    carry: Carry | None = None
    for segment in segments(lanes.config, world.refresh_steps, chunk, iteration, stops):
        fresh = content is None or segment.fresh_content
        if fresh:
            content = world.content(lanes, np.int32(segment.epoch))  # pyright: ignore
        if carry is None:
            if start is None:
                carry = learner.init(lanes, content)
                carry = carry if begin is None else begin(lanes, carry)
            else:
                carry = world.resume(start.carry, content, start.host_states)
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
    if iteration >= config.trained_iterations:
        return True
    return not has_budget(config.trained_steps, np.asarray(env_steps)).any()

"""How training is cut into calls of a compiled program."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from jaxgen.study.config import Config


class Segment(NamedTuple):
    """Iterations that run in one call of ``train``."""

    start: int
    stop: int
    epoch: int
    """Which training content they use."""
    fresh_content: bool
    """The content is another one than that of the iteration before."""
    curve_point: bool
    """A point of the learning curve follows."""


def segments(
    config: Config, refresh_steps: int | None, chunk: int, start: int = 0,
    stops: Collection[int] = (),
) -> Iterator[Segment]:
    """Cut the iterations from ``start`` on at chunks, curve points, refreshes of content and
    ``stops``, after so many iterations."""
    curve, refresh = config.curve_iterations, config.refresh_iterations(refresh_steps)
    end = config.trained_iterations
    periods = [curve] if refresh is None else [curve, refresh]
    while start < end:
        following = (stop for stop in stops if stop > start)
        stop = min(
            start + chunk, end, *following, *((start // period + 1) * period for period in periods)
        )
        epoch = start // refresh if refresh else 0
        fresh = refresh is not None and start % refresh == 0
        yield Segment(start, stop, epoch, fresh, stop % curve == 0 or stop == end)
        start = stop

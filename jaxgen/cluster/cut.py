"""Cut what is left of a study into units."""

from collections.abc import Iterator

from jaxgen.cluster.units import Run, Unit
from jaxgen.finishing import lost_best
from jaxgen.plan import estimated_seconds
from jaxgen.runner import in_flight
from jaxgen.store import Store
from jaxgen.study import Group, Study

MIN_LANES = 2
"""Fewer would be padded, see `jaxgen.batch_training`."""


def make_units(study: Study, store: Store, num_parts: int) -> list[Unit]:
    """Cut what a store lacks of a study; the longest first, what is in flight before all else.

    Args:
      study: what to run.
      store: what is there already.
      num_parts: of each group at most; 1: a unit is a whole program.
    """
    found: list[tuple[float, int, list[Run]]] = []
    for index, group in enumerate(study.groups):
        per_lane = estimated_seconds(group) / len(group.lanes)
        for flying, lanes in _parts(group, store, num_parts):
            seconds = float("inf") if flying else per_lane * len(lanes)
            found.append((seconds, index, lanes))
    found.sort(key=lambda part: -part[0])
    return [
        Unit(_name(number, study.groups[index]), index, lanes)
        for number, (_, index, lanes) in enumerate(found)
    ]


def _name(number: int, group: Group) -> str:
    return f"{number:04d}-{group.algorithm}_{group.environment}"[:64]


def _parts(group: Group, store: Store, num_parts: int) -> Iterator[tuple[bool, list[Run]]]:
    """Whether in flight, and lanes of each part."""
    own = [(spec.name, seed) for spec, seed in group.lanes]
    rest = [lane for lane in own if not store.is_done(*lane)]
    for _, lanes in in_flight(store, f"{group.algorithm}_{group.environment}-"):
        if set(lanes) <= set(own) and set(lanes) & set(rest):
            rest = [lane for lane in rest if lane not in lanes]
            yield True, lanes
    if rest:
        size = max(MIN_LANES, -(-len(rest) // num_parts))
        yield from ((False, rest[i : i + size]) for i in range(0, len(rest), size))
    elif (lost := lost_best(store, group)) is not None:
        spec, seed = lost[0]
        yield False, [(spec.name, seed)]

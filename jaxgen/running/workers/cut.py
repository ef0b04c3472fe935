"""Cut what is left of a study into units."""

from collections.abc import Callable, Iterator

from jaxgen.results.store import Store
from jaxgen.running.kinds.base import Kind
from jaxgen.running.runner import in_flight
from jaxgen.running.workers.units import RunKey, Unit
from jaxgen.study.estimate import estimated_seconds
from jaxgen.study.product import Group, Study
from jaxgen.system import checkpoint
from jaxgen.training.fit import MIN_LANES


def make_units(study: Study, store: Store, kind: Kind, num_parts: int) -> list[Unit]:
    """Cut what a store lacks of a study; the longest first, what is in flight before all else.

    Args:
      study: what to run.
      store: what is there already.
      kind: of the study.
      num_parts: of each group at most; 1: a unit is a whole program.
    """
    parts: list[tuple[float, int, list[RunKey]]] = []
    for index, group in enumerate(study.groups):
        per_lane = estimated_seconds(group) / len(group.lanes)
        for flying, lanes in _parts(group, store, kind, num_parts):
            seconds = float("inf") if flying else per_lane * len(lanes)
            parts.append((seconds, index, lanes))
    parts.sort(key=lambda part: -part[0])
    return [
        Unit(_name(number, study.groups[index]), index, lanes)
        for number, (_, index, lanes) in enumerate(parts)
    ]


def _name(number: int, group: Group) -> str:
    return f"{number:04d}-{group.name}"[:60]


def _parts(
    group: Group, store: Store, kind: Kind, num_parts: int
) -> Iterator[tuple[bool, list[RunKey]]]:
    """Whether in flight, and lanes of each part."""
    runs = [(spec.name, seed) for spec, seed in group.lanes]
    rest = [lane for lane in runs if not store.is_done(*lane)]
    flying = [lanes for _, lanes in in_flight(store, f"{group.name}-") if set(lanes) <= set(runs)]
    taken: set[RunKey] = set()
    for lanes in flying:
        if set(lanes) & set(rest):
            rest = [lane for lane in rest if lane not in lanes]
            taken |= set(lanes)
            yield True, lanes
    if rest:
        size = max(MIN_LANES, -(-len(rest) // num_parts))
        yield from ((False, rest[i : i + size]) for i in range(0, len(rest), size))
    elif (lane := _lost_lane(store, kind, group)) is not None and lane not in taken:
        # Killed between its last result and its best model, a batch is all there.
        yield next(((True, lanes) for lanes in flying if lane in lanes), (False, [lane]))


def remove_useless(
    study: Study, store: Store, kind: Kind, note: Callable[[str], None]
) -> None:
    """Remove the checkpoints of a study from which nothing can go on; only while no worker runs.

    Args:
      study: what to run.
      store: where they lie.
      kind: of the study.
      note: is told of those that are damaged.
    """
    for group in study.groups:
        runs = {(spec.name, seed) for spec, seed in group.lanes}
        for path, lanes in in_flight(store, f"{group.name}-", remove_damaged=note):
            done = set(lanes) <= runs and all(store.is_done(*lane) for lane in lanes)
            if done and _lost_lane(store, kind, group) not in lanes:
                checkpoint.remove(path)


def _lost_lane(store: Store, kind: Kind, group: Group) -> RunKey | None:
    """The run of a group that has to be trained again."""
    lost = kind.lost(store, group)
    return None if lost is None else (lost[0][0].name, lost[0][1])

"""Run a study: groups to batches of lanes, batches to results in the store.

Truth is the files. A run with a valid result.json is done and is not trained again
(unless it is the best of its kind and its agent is lost); a batch in flight has a
checkpoint, named by its list of lanes, from which the next start goes on. What was
trained does not depend on where it was interrupted, on the chunk length, on which
lanes ran beside it or on the number of devices.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path

import jax

from jaxgen.results.store import DONE, MISSING, Store
from jaxgen.running.batch import (
    GroupProgram,
    make_group_program,
    make_trainer,
    max_batch_lanes,
    train,
)
from jaxgen.running.kinds.base import Kind
from jaxgen.running.reporter import Lane, Reporter
from jaxgen.running.session import Batch, Interrupted, Options, Session
from jaxgen.study.product import Group, Study
from jaxgen.study.spec import RunSpec
from jaxgen.system import checkpoint
from jaxgen.system.options import computing
from jaxgen.training.fit import in_turns
from jaxgen.types import HostTask, Task


def run_study(
    study: Study,
    store: Store,
    make_task: Callable[..., Task | HostTask],
    reporter: Reporter,
    kind: Kind,
    options: Options | None = None,
) -> None:
    """Train and evaluate what the store lacks of a study.

    Args:
      study: what to run.
      store: where results lie; the caller holds its lock.
      make_task: (registry name, **options) -> Task.
      reporter: is told of progress.
      kind: what is made of the batches that are trained.
      options: how to run; None: the defaults.

    Raises:
      Interrupted: ``options.should_stop`` said so; nothing is lost.
    """
    session = Session(store, make_task, options or Options(), reporter, kind, {})
    if session.options.fresh:
        discard(study, store)
    for group in study.groups:
        run_lanes(session, group, group.lanes)
        release()


def release() -> None:
    """Free what the programs of a group leave behind: buffers, compiled code, traces."""
    jax.clear_caches()
    gc.collect()


def discard(study: Study, store: Store) -> None:
    """Make every run of the study count as not done, and forget what of it is in flight."""
    runs = [(spec.name, seed) for spec, seed in study.lanes]
    for name, seed in runs:
        store.discard(name, seed)
    for path, identity in in_flight(store):
        if set(runs) & set(identity):
            checkpoint.remove(path)


def in_flight(
    store: Store, prefix: str = "", remove_damaged: Callable[[str], None] | None = None
) -> Iterator[tuple[Path, list[tuple[str, int]]]]:
    """Checkpoints with the (run name, seed) pairs of their lanes.

    Args:
      store: where they lie.
      prefix: of their names.
      remove_damaged: read all of each, not its manifest alone, and remove those that are damaged;
        this is told of them. None: leave them, as another process may just be writing them.
    """
    read = checkpoint.peek if remove_damaged is None else checkpoint.read_meta
    for path in checkpoint.saved_in(store.root / "checkpoints"):
        if path.name.startswith(prefix):
            try:
                lanes = read(path)["lanes"]
            except checkpoint.DamagedCheckpoint as damage:
                if remove_damaged is not None:
                    remove_damaged(f"damaged checkpoint removed, its work is done again: {damage}")
                    checkpoint.remove(path)
                continue
            yield path, [(name, seed) for name, seed in lanes]


@computing()
def run_lanes(session: Session, group: Group, lanes: Sequence[Lane]) -> None:
    """Train and evaluate what the store lacks of some lanes of a group; errors of `run_study`."""
    store, reporter = session.store, session.reporter
    for spec in (*group.specs, *group.aliases):
        damage = store.write_spec(spec.name, spec.to_dict())
        if damage is not None:
            reporter.note(f"damaged, written again: {damage}")
    pending = [lane for lane in lanes if not _is_done(session, *lane)]
    # Made once, and only where something is left to train.
    program = cache(partial(make_group_program, session, group))
    batches = _batches(session, group, lanes, pending, program)
    # chain is lazy: the second reads results that the first have written.
    for batch in chain(batches, _lost(session, group, lanes)):
        if session.options.should_stop():
            raise Interrupted(f"stopped before {batch.label}")
        _run_batch(session, program(), batch)
    for batch in _in_flight(session, group, lanes):
        # Left by a kill after its results were written.
        checkpoint.remove(batch.checkpoint_path(store))


def _run_batch(session: Session, shared: GroupProgram, batch: Batch) -> None:
    start = time.perf_counter()
    trainer = make_trainer(session, shared, batch)
    session.kind.finish(trainer, train(trainer))
    seconds = time.perf_counter() - start
    session.reporter.note(f"{batch.label}: {len(batch.lanes)} runs done in {seconds:.0f} s")


def _is_done(session: Session, spec: RunSpec, seed: int) -> bool:
    status = session.store.check_run(spec.name, seed)
    if status not in (DONE, MISSING):
        session.reporter.note(f"{status}; {spec.experiment} seed {seed} is computed again")
    return status == DONE


def _batches(
    session: Session, group: Group, lanes: Sequence[Lane], pending: list[Lane],
    program: Callable[[], GroupProgram],
) -> Iterator[Batch]:
    """Batches in flight first, as they were; then everything else that is pending."""
    rest = pending
    for batch in _in_flight(session, group, lanes):
        if any(lane in rest for lane in batch.lanes):
            rest = [lane for lane in rest if lane not in batch.lanes]
            yield batch
    if session.options.vmap_seeds:
        parts = [rest]
    else:
        parts = [[lane for lane in rest if lane[1] == seed] for seed in group.seeds]
    if not rest:
        return
    most = max_batch_lanes(session, program(), Batch(max(parts, key=len)))
    for part in filter(None, parts):
        yield from map(Batch, in_turns(part, most))


def _lost(session: Session, group: Group, lanes: Sequence[Lane]) -> Iterator[Batch]:
    """A batch that brings back what is lost of the group; asked when all these runs are done."""
    lost = session.kind.lost(session.store, group)
    if lost is None or lost[0] not in lanes:
        return
    lane, why = lost
    for batch in _in_flight(session, group, lanes):
        if lane in batch.lanes:
            yield batch
            return
    spec, seed = lane
    session.reporter.note(
        f"{why}; {spec.experiment} seed {seed} is trained again for it"
    )
    yield Batch([lane])


def _in_flight(session: Session, group: Group, lanes: Sequence[Lane]) -> list[Batch]:
    """Batches of nothing but these lanes that have a checkpoint."""
    known = {(spec.name, seed): (spec, seed) for spec, seed in lanes}
    remove_damaged = session.reporter.note if session.alone else None
    return [
        Batch([known[name] for name in identity])
        for _, identity in in_flight(session.store, f"{group.name}-", remove_damaged)
        if identity and set(identity) <= set(known)
    ]

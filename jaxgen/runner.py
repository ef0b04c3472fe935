"""Run a study: groups to batches of lanes, batches to results in the store.

Truth is the files. A run with a valid result.json is done and is not trained again
(unless it is the best of its kind and its model is lost); a batch in flight has a
checkpoint, named by its list of lanes, from which the next start goes on. What was
trained does not depend on where it was interrupted, on the chunk length, on which
lanes ran beside it or on the number of devices.
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from jaxgen import checkpoint
from jaxgen.batch_training import (
    GroupProgram,
    make_group_program,
    make_trainer,
    max_batch_lanes,
    train,
)
from jaxgen.finishing import finish, lost_best
from jaxgen.session import Batch, Interrupted, Lane, Options, Reporter, Session
from jaxgen.store import DONE, MISSING, Store
from jaxgen.study import Group, RunSpec, Study
from jaxgen.types import HostTask, Task


def run_study(
    study: Study,
    store: Store,
    make_task: Callable[..., Task | HostTask],
    reporter: Reporter,
    options: Options | None = None,
) -> None:
    """Train and evaluate what the store lacks of a study.

    Args:
      study: what to run.
      store: where results lie; the caller holds its lock.
      make_task: (registry name, **options) -> Task.
      reporter: is told of progress.
      options: how to run; None: the defaults.

    Raises:
      Interrupted: ``options.should_stop`` said so; nothing is lost.
    """
    session = Session(store, make_task, options or Options(), reporter, {})
    if session.options.fresh:
        _discard(session, study)
    for group in study.groups:
        _run_group(session, group)


def _discard(session: Session, study: Study) -> None:
    """Make every run of the study count as not done, and forget what of it is in flight."""
    lanes = [lane for group in study.groups for lane in group.lanes]
    for spec, seed in lanes:
        session.store.discard(spec.name, seed)
    names = {(spec.name, seed) for spec, seed in lanes}
    for path in checkpoint.saved_in(session.store.root / "checkpoints"):
        identity = _read_identity(session, path)
        if identity and names & set(identity):
            checkpoint.remove(path)


def _run_group(session: Session, group: Group) -> None:
    store, reporter = session.store, session.reporter
    for spec in (*group.specs, *group.aliases):
        damage = store.write_spec(spec.name, spec.to_dict())
        if damage is not None:
            reporter.note(f"damaged, written again: {damage}")
    pending = [lane for lane in group.lanes if not _is_done(session, *lane)]
    shared = None
    # Lazily: the second is a question about what the first has left.
    for batch in chain(_batches(session, group, pending), _lost_best(session, group)):
        if session.options.should_stop():
            raise Interrupted(f"stopped before {batch.label}")
        shared = shared or make_group_program(session, group)
        _run_batch(session, shared, batch)
    for batch in _in_flight(session, group):
        # Left by a kill after its results were written.
        checkpoint.remove(batch.checkpoint_path(store))


def _run_batch(session: Session, shared: GroupProgram, batch: Batch) -> None:
    start = time.perf_counter()
    trainer = make_trainer(session, shared, batch)
    finish(trainer, train(trainer))
    seconds = time.perf_counter() - start
    session.reporter.note(f"{batch.label}: {len(batch.lanes)} runs done in {seconds:.0f} s")


def _is_done(session: Session, spec: RunSpec, seed: int) -> bool:
    status = session.store.check_run(spec.name, seed)
    if status not in (DONE, MISSING):
        session.reporter.note(f"{status}; {spec.experiment} seed {seed} is computed again")
    return status == DONE


def _batches(session: Session, group: Group, pending: list[Lane]) -> Iterator[Batch]:
    """Batches in flight first, as they were; then everything else that is pending."""
    rest = pending
    for batch in _in_flight(session, group):
        if any(lane in rest for lane in batch.lanes):
            rest = [lane for lane in rest if lane not in batch.lanes]
            yield batch
    if session.options.vmap_seeds:
        parts = [rest]
    else:
        parts = [[lane for lane in rest if lane[1] == seed] for seed in group.seeds]
    width = max_batch_lanes(session, group) if rest else 1
    for part in parts:
        yield from (Batch(part[i : i + width]) for i in range(0, len(part), width))


def _lost_best(session: Session, group: Group) -> Iterator[Batch]:
    """What brings back the model of the group's best run; asked when all runs are done."""
    lost = lost_best(session.store, group)
    if lost is None:
        return
    lane, why = lost
    for batch in _in_flight(session, group):
        if lane in batch.lanes:
            yield batch
            return
    spec, seed = lane
    session.reporter.note(
        f"the best model of {group.algorithm} {group.environment} is missing ({why}); "
        f"{spec.experiment} seed {seed} is trained again for it"
    )
    yield Batch([lane])


def _in_flight(session: Session, group: Group) -> list[Batch]:
    """Batches of nothing but lanes of this group that have a checkpoint."""
    lanes = {(spec.name, seed): (spec, seed) for spec, seed in group.lanes}
    batches = []
    for path in checkpoint.saved_in(session.store.root / "checkpoints"):
        if path.name.startswith(f"{group.algorithm}_{group.environment}-"):
            identity = _read_identity(session, path)
            if identity and set(identity) <= set(lanes):
                batches.append(Batch([lanes[name] for name in identity]))
    return batches


def _read_identity(session: Session, path: Path) -> list[tuple[str, int]] | None:
    """The (run name, seed) pairs of a checkpoint; None: it was damaged and is removed."""
    try:
        return [(name, seed) for name, seed in checkpoint.read_meta(path)["lanes"]]
    except checkpoint.DamagedCheckpoint as damage:
        session.reporter.note(f"damaged checkpoint removed, its work is done again: {damage}")
        checkpoint.remove(path)
        return None

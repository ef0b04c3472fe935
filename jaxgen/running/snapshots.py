"""Snapshots of runs, and the forks that begin with them.

A snapshot is the checkpoint of a single lane, kept beside the run's results. A fork goes on from it
as if it had trained until then itself: its history is the parent's up to there.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.results.kept import BEST, agent_name
from jaxgen.results.store import Store
from jaxgen.running import progress
from jaxgen.running.progress import Progress
from jaxgen.running.session import Batch
from jaxgen.study.config import Config
from jaxgen.study.fork import PAIRED, Fork
from jaxgen.system import checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.training.build import make_program
from jaxgen.training.fit import padded
from jaxgen.training.fork import gather
from jaxgen.training.loop import Start, Step
from jaxgen.training.program import Carry, Program

if TYPE_CHECKING:
    from jaxgen.running.batch import Trainer


def stops(config: Config, shares: tuple[float, ...]) -> dict[int, float]:
    """The shares of the snapshots by number of iterations, where that is known beforehand.

    Raises:
      BadInput: a share is not in (0, 1], or two are the same iteration.
    """
    for share in shares:
        if not 0 < share <= 1:
            raise BadInput(f"a snapshot at {share!r} of training is not allowed; use one in (0, 1]")
    if not config.counts_alike:
        return {}
    by_iteration = {config.iteration_at(share): share for share in shares}
    if len(by_iteration) != len(shares):
        raise BadInput(
            f"snapshots at {list(shares)} of {config.num_iterations} iterations are not allowed; "
            "use shares that are an iteration or more apart"
        )
    return by_iteration


def reached(
    config: Config, shares: tuple[float, ...], by_iteration: dict[int, float], state: Progress,
    before: float,
) -> list[float]:
    """The shares of the snapshots that are due after a step.

    Args:
      config: of the lanes.
      shares: all of them.
      by_iteration: what `stops` gave.
      state: after the step, of a single lane where iterations do not count alike.
      before: env steps before it.
    """
    if config.counts_alike:
        return [by_iteration[state.iteration]] if state.iteration in by_iteration else []
    return [share for share in shares if before < config.steps_at(share) <= state.env_steps]


def path_of(store: Store, run: str, seed: int, share: float) -> Path:
    """The folder of a run's snapshot."""
    return store.seed_dir(run, seed) / "snapshots" / f"{share:g}"


def keep(trainer: "Trainer", state: Progress, step: Step, share: float) -> None:
    """Write the agent of each lane of a batch and, where the run has a snapshot there, its
    state."""
    vectors, store = trainer.vectors(step.carry), trainer.session.store
    for index, (spec, seed) in enumerate(trainer.batch.lanes):
        store.write_agent(
            spec.name, seed, trainer.pack_agent(index, vectors), agent_name(f"{share:g}")
        )
        if share not in spec.snapshots:
            continue
        carry, host_state = trainer.program.world.save(step.carry, step.content, index)
        lane = progress.lane_of(state, index)._replace(carry=carry, host_state=host_state)
        path = path_of(store, spec.name, seed, share)
        progress.save(path, Batch([(spec, seed)]), lane)


def keep_best(trainer: "Trainer", state: Progress) -> None:
    """Write the agents of lanes whose learning curve has a new highest mean return at its end.

    A start from an older checkpoint writes the same ones again.
    """
    if trainer.batch.lanes[0][0].followed is None:
        return
    means = state.curve["eval_return"]
    is_best = [mean[-1] > np.max(mean[:-1], initial=-np.inf) for mean in means]
    if any(is_best):
        vectors = trainer.vectors(state.carry)
        for index, (spec, seed) in enumerate(trainer.batch.lanes):
            if is_best[index]:
                agent = trainer.pack_agent(index, vectors)
                trainer.session.store.write_agent(spec.name, seed, agent, agent_name(BEST))


def check_starts(batch: Batch) -> None:
    """Raise ValueError unless all lanes of a batch begin at the same iteration, in the same way."""
    for spec, _ in batch.lanes:
        if spec.start is not None:
            spec.start.validate()
    starts = {
        None if spec.start is None else (spec.start.share, spec.start.replay)
        for spec, _ in batch.lanes
    }
    if len(starts) > 1:
        raise ValueError("forks of other shares or replays do not train in the same program")


def forked(trainer: "Trainer") -> tuple[Progress, Start] | None:
    """The state of a batch of forks before they train, without and with padded lanes.

    Returns None if the batch begins with new networks.

    Raises:
      BadInput: a snapshot is missing, damaged, or does not fit the fork.
    """
    start = trainer.batch.lanes[0][0].start
    if start is None or start.share == 0:
        return None
    program, lanes = trainer.program, trainer.lanes
    parents = [
        _load(trainer, spec.start, seed)
        for spec, seed in trainer.batch.lanes if spec.start is not None
    ]
    iteration = parents[0].iteration
    if trainer.config.counts_alike:
        iteration = start.iteration(trainer.config)
    if {parent.iteration for parent in parents} != {iteration}:
        raise BadInput(
            f"a fork at iteration {iteration} is not one of its parent's snapshot, which is at "
            f"{parents[0].iteration}; use the parent's budget"
        )
    try:
        state = progress.join(parents)
    except ValueError as error:
        raise BadInput(f"{trainer.batch.label}: parents of forks differ: {error}") from error
    each = padded(range(len(parents)), program.capacity)
    carry = program.learner.fork(lanes, gather(state.carry, each), iteration, start.replay)
    if any(spec.start.perturbation for spec, _ in trainer.batch.lanes if spec.start):
        _check_moved(trainer, gather(state.carry, each), carry)
    host_states = [(lane, parents[parent].host_state) for lane, parent in enumerate(each)]
    return state, Start(iteration, carry, host_states)


def _check_moved(trainer: "Trainer", before: Carry, after: Carry) -> None:
    pairs = zip(jax.tree.leaves(before.state), jax.tree.leaves(after.state), strict=True)
    if all(np.array_equal(*pair) for pair in pairs):
        raise BadInput(
            f"{trainer.config.algorithm} keeps its parameters in no leaf of its state, so that "
            "they cannot be perturbed; leave out the perturbation"
        )


def _parents(trainer: "Trainer", start: Fork) -> Program:
    """The program that trained the parents: its carry is another one where two forks share one."""
    if start.replay not in PAIRED:
        return trainer.program
    spec, shared = trainer.batch.lanes[0][0], trainer.shared
    return make_program(
        shared.task, ALGORITHMS[spec.base], trainer.lanes, study_seed=spec.study_seed,
        devices=shared.devices,
    )


def _load(trainer: "Trainer", start: Fork, seed: int) -> Progress:
    batch = Batch([(trainer.batch.lanes[0][0], seed)])
    path = path_of(trainer.session.store, start.run, seed, start.share)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype),
        _parents(trainer, start).learner.shapes(trainer.lanes),
    )
    try:
        parent = progress.load(path, batch, shapes)
    except checkpoint.DamagedCheckpoint as damage:
        raise BadInput(
            f"a fork of {start.run} seed {seed} has no snapshot to begin with ({damage}); train "
            f"the parent with a snapshot at {start.share:g}, and with the same networks"
        ) from damage
    prints = trainer.references.prints
    if prints is not None and parent.seen.shape[1:] != np.shape(prints):
        raise BadInput(
            f"a fork of {start.run} is evaluated on other episodes than its parent; use the same"
        )
    return parent

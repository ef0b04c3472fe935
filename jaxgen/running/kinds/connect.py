"""The study of connectivity: lines between ends, after the runs that they are of are trained."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

import jax
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import Algorithm
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.connectivity.critics import critic_line, visited
from jaxgen.evaluation.connectivity.ends import (
    aligned_to,
    in_a_random_direction,
    layer_lines,
    permuted,
    whole_line,
)
from jaxgen.evaluation.connectivity.walk import returns_of_vectors
from jaxgen.evaluation.saving import load_agent
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.results.kept import agent_of
from jaxgen.results.lines import STRAIGHT, Line, line_path, read_line, write_line
from jaxgen.results.store import Store
from jaxgen.study.config import Config
from jaxgen.study.kinds.connect import ALIGNED, Pair, Walk
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, content_hash
from jaxgen.system.options import computing
from jaxgen.techniques import Technique
from jaxgen.training.keys import evaluation_key
from jaxgen.types import EnvSpec, HostTask, Task, is_host

PURPOSE, VISITS = 2, 3
"""Of the keys of a line's episodes and of those that critics are judged on: neither those of final
evaluations nor those of learning curves."""
ALIGNED_PATH = "aligned"


class _Place(NamedTuple):
    """The fixed episodes of an environment."""

    task: Task | HostTask
    suite: Suite
    floor: np.ndarray
    ceiling: np.ndarray


class _Path(NamedTuple):
    """The vectors of a line ``[A, D]``, and its critics."""

    name: str
    points: np.ndarray
    distance: float
    critics: np.ndarray | None = None


@computing()
def walk_lines(
    store: Store,
    pairs: Sequence[Pair],
    walk: Walk,
    make_task: Callable[..., Task | HostTask],
    note: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Walk the lines that are not there yet; a file appears with each.

    Args:
      store: with the results of the runs; the caller holds its lock.
      pairs: whose lines are walked.
      walk: how.
      make_task: (registry name, **options) -> Task.
      note: is told of what is left aside, and of how far it is.
      should_stop: asked before each pair.

    Returns:
      Whether all are there.

    Raises:
      BadInput: networks have layers that cannot be aligned, where that is asked for.
    """
    places: dict[str, _Place] = {}
    for number, pair in enumerate(pairs, 1):
        if should_stop():
            return False
        # The last line of a pair to be written says that all are there.
        if not _is_walked(store, pair, walk):
            spec = pair.parent
            key = content_hash([spec.environment, spec.task_options, spec.study_seed])
            if key not in places:
                places[key] = _place(make_task, pair, walk)
            _walk_pair(store, pair, walk, places[key], note)
        if number % 20 == 0 or number == len(pairs):
            note(f"{number} of {len(pairs)} pairs walked")
    return True


def _is_walked(store: Store, pair: Pair, walk: Walk) -> bool:
    """Whether the last file of a pair is there, and holds what is asked for."""
    try:
        meta = read_line(line_path(store, pair.parent.name, pair.seed, pair.name)).meta
    except DamagedFile:
        return False
    asked = _asked(walk)
    return {name: meta.get(name) for name in asked} == asked


def _asked(walk: Walk) -> dict[str, Any]:
    return {
        "alphas": walk.alphas, "levels": list(walk.levels), "episodes": walk.episodes,
        "aligned": walk.aligned, "layers": walk.layers, "critics": walk.critics,
    }  # fmt: skip


def _place(make_task: Callable[..., Task | HostTask], pair: Pair, walk: Walk) -> _Place:
    spec = pair.parent
    task = make_task(spec.environment, **spec.task_options)
    if walk.critics and is_host(task):
        raise BadInput(
            f"critics of {spec.environment}, which lives on the host, are not measured; leave out "
            "--critics"
        )
    suite = make_suite(
        task, evaluation_key(spec.study_seed, PURPOSE), walk.levels, walk.episodes
    )
    floor = suite.random().mean(1, dtype=np.float64)
    return _Place(task, suite, floor, suite.known().ceiling.mean(1))


def _walk_pair(
    store: Store, pair: Pair, walk: Walk, place: _Place, note: Callable[[str], None]
) -> None:
    """Walk all lines of a pair; none where a run has diverged, or its agent is not there."""
    ends = []
    for end in (pair.first, pair.second):
        try:
            agent = load_agent(agent_of(store, end.run, end.seed, end.share))
        except DamagedFile as damage:
            note(f"left aside: {damage}")
            return
        if agent.fault:
            note(f"left aside: {end.run} seed {end.seed} diverged: {agent.fault}")
            return
        ends.append(agent)
    algorithm = _algorithm(pair.parent.config, ends[0].spec)
    paths = list(_paths(pair, walk, place, algorithm, ends))
    # The straight line comes last: where it is, all are.
    for path in sorted(paths, key=lambda path: path.name == STRAIGHT):
        returns = returns_of_vectors(
            place.task, place.suite, algorithm.policy, path.points, pair.parent.config.num_frames
        )
        line = Line(
            returns, place.floor, place.ceiling, path.distance, _meta(pair, walk, path.name),
            path.critics,
        )  # fmt: skip
        name = pair.name if path.name == STRAIGHT else f"{pair.name}-{path.name}"
        write_line(store, name, line)


def _paths(
    pair: Pair, walk: Walk, place: _Place, algorithm: Algorithm, ends: Sequence[Agent]
) -> Iterator[_Path]:
    """The lines that are asked for between two ends."""
    alphas, unravel = walk.alphas, algorithm.unravel
    odd = getattr(pair.parent.config, "activation", None) == "tanh"
    seed = crc32(f"{pair.parent.name} {pair.seed} {pair.name}".encode())
    first, second = (np.asarray(agent.params, np.float32) for agent in ends)
    needs_order = walk.aligned or pair.strategy in ALIGNED
    if unravel is None and (needs_order or walk.layers):
        raise BadInput(
            f"the networks of {pair.parent.base} are not told apart: no layers, no alignment"
        )
    if pair.strategy == "direction":
        second = in_a_random_direction(first, second, seed)
    try:
        if pair.strategy == "permuted":
            second = permuted(unravel, first, odd, seed)  # pyright: ignore
        pairs = {STRAIGHT: np.stack([first, second])}
        if needs_order:
            other = aligned_to(unravel, first, second, odd)  # pyright: ignore
            pairs[ALIGNED_PATH] = np.stack([first, other])
    except ValueError as error:
        raise BadInput(f"{pair.parent.experiment}: {error}") from error
    for name, each in pairs.items():
        apart = np.linalg.norm(each[0].astype(np.float64) - each[1])
        points, critics = whole_line(unravel, each, alphas), None
        if walk.critics and name == STRAIGHT:
            critics = _critics(pair, walk, place, algorithm, ends, points)
        yield _Path(name, points, float(apart), critics)
        if walk.layers and name == STRAIGHT:
            for layer, points in layer_lines(unravel, each, alphas):  # pyright: ignore
                apart = np.linalg.norm(points[0].astype(np.float64) - points[-1])
                yield _Path(layer, points, float(apart))


def _critics(
    pair: Pair, walk: Walk, place: _Place, algorithm: Algorithm, ends: Sequence[Agent],
    policies: np.ndarray,
) -> np.ndarray | None:
    """The judges of actions between two ends; None where nothing judges, or it is of others."""
    if algorithm.critic is None or pair.strategy in ("direction", "permuted"):
        return None
    if any(agent.critic is None for agent in ends):
        return None
    config: Any = pair.parent.config
    key = jax.random.fold_in(evaluation_key(pair.parent.study_seed, VISITS), np.uint32(pair.seed))
    batch = visited(place.task, algorithm.policy, policies[[0, -1]], key)  # pyright: ignore
    critics = np.stack([np.asarray(agent.critic, np.float32) for agent in ends])
    measured = critic_line(
        algorithm.critic, algorithm.policy, batch, whole_line(None, critics, walk.alphas),
        policies, np.asarray(walk.alphas), config.gamma, getattr(config, "reward_scale", 1.0),
    )  # fmt: skip
    return np.stack(measured)


def _meta(pair: Pair, walk: Walk, path: str) -> dict[str, Any]:
    spec = pair.parent
    return {
        "environment": spec.environment, "algorithm": spec.algorithm, "arm": spec.arm,
        "parent": spec.name, "seed": pair.seed, "point": pair.point, "strategy": pair.strategy,
        "path": path, "number": pair.number, "pair": pair.name,
        "ends": [end._asdict() for end in (pair.first, pair.second)], "quick": spec.quick,
        **_asked(walk),
    }  # fmt: skip


@lru_cache(maxsize=16)
def _algorithm(config: Config, spec: EnvSpec) -> Algorithm:
    """The functions of a parent's vectors, made once so that they are compiled once."""
    return ALGORITHMS[config.algorithm](config, Technique(), spec)

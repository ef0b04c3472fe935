"""The study of connectivity: lines between the ends of forks, after these are trained."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.connectivity.line import along
from jaxgen.evaluation.connectivity.walk import returns_of_vectors
from jaxgen.evaluation.saving import load_agent
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.results.lines import Line, line_path, read_line, write_line
from jaxgen.results.store import Store
from jaxgen.study.config import Config
from jaxgen.study.connect import Pair, Walk
from jaxgen.system.files import DamagedFile, content_hash
from jaxgen.system.options import computing
from jaxgen.techniques import Technique
from jaxgen.training.keys import evaluation_key
from jaxgen.types import EnvSpec, HostTask, Policy, Task

PURPOSE = 2
"""Of the key of the episodes: neither those of final evaluations nor those of learning curves."""


class _Place(NamedTuple):
    """The fixed episodes of an environment."""

    task: Task | HostTask
    suite: Suite
    floor: np.ndarray
    ceiling: np.ndarray


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
      store: with the forks' results; the caller holds its lock.
      pairs: whose lines are walked.
      walk: how.
      make_task: (registry name, **options) -> Task.
      note: is told of what is left aside, and of how far it is.
      should_stop: asked before each line.

    Returns:
      Whether all are there.
    """
    places: dict[str, _Place] = {}
    for number, pair in enumerate(pairs, 1):
        if should_stop():
            return False
        if _is_walked(store, pair, walk):
            continue
        spec = pair.parent
        key = content_hash([spec.environment, spec.task_options, spec.study_seed])
        if key not in places:
            places[key] = _place(make_task, pair, walk)
        line = _walked(store, pair, walk, places[key], note)
        if line is not None:
            write_line(store, line)
        if number % 20 == 0 or number == len(pairs):
            note(f"{number} of {len(pairs)} lines walked")
    return True


def _is_walked(store: Store, pair: Pair, walk: Walk) -> bool:
    """Whether the file of a pair is there, and holds what is asked for."""
    try:
        meta = read_line(line_path(store, pair.parent.name, pair.seed, pair.name)).meta
    except DamagedFile:
        return False
    asked = _asked(walk)
    return {name: meta[name] for name in asked} == asked


def _asked(walk: Walk) -> dict[str, Any]:
    return {"alphas": walk.alphas, "levels": list(walk.levels), "episodes": walk.episodes}


def _place(make_task: Callable[..., Task | HostTask], pair: Pair, walk: Walk) -> _Place:
    spec = pair.parent
    task = make_task(spec.environment, **spec.task_options)
    suite = make_suite(
        task, evaluation_key(spec.study_seed, PURPOSE), walk.levels, walk.episodes
    )
    floor = suite.random().mean(1, dtype=np.float64)
    return _Place(task, suite, floor, suite.known().ceiling.mean(1))


def _walked(
    store: Store, pair: Pair, walk: Walk, place: _Place, note: Callable[[str], None]
) -> Line | None:
    """The line of a pair; None: a fork has diverged, or its agent is not there."""
    ends = []
    for fork in (pair.first, pair.second):
        try:
            agent = load_agent(store.check_agent(fork.name, pair.seed))
        except DamagedFile as damage:
            note(f"left aside: {damage}")
            return None
        if agent.fault:
            note(f"left aside: {fork.name} seed {pair.seed} diverged: {agent.fault}")
            return None
        ends.append(agent)
    vectors = np.stack([np.asarray(agent.params, np.float32) for agent in ends])
    points = along(vectors[None], walk.alphas)
    policy = _policy(pair.parent.config, ends[0].spec)
    returns = returns_of_vectors(
        place.task, place.suite, policy, points, pair.parent.config.num_frames
    )
    distance = float(np.linalg.norm(vectors[0].astype(np.float64) - vectors[1]))
    return Line(returns, place.floor, place.ceiling, distance, _meta(pair, walk, ends))


def _meta(pair: Pair, walk: Walk, ends: Sequence[Agent]) -> dict[str, Any]:
    spec = pair.parent
    return {
        "environment": spec.environment, "algorithm": spec.algorithm, "arm": spec.arm,
        "parent": spec.name, "seed": pair.seed, "point": pair.point, "replay": pair.replay,
        "number": pair.number, "pair": pair.name, "ends": [agent.run for agent in ends],
        "quick": spec.quick, **_asked(walk),
    }  # fmt: skip


@lru_cache(maxsize=16)
def _policy(config: Config, spec: EnvSpec) -> Policy:
    """How vectors of a parent's forks act, made once so that it is compiled once."""
    return ALGORITHMS[config.algorithm](config, Technique(), spec).policy

"""Agents that a study has kept, evaluated again: on other levels, over other episodes."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.agent import Agent, returns_of
from jaxgen.evaluation.returns import standard_error
from jaxgen.evaluation.saving import load_agent
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.results.store import AGENT, Store
from jaxgen.results.table import table_text
from jaxgen.study.arms import arm_name
from jaxgen.study.cards import figure_title
from jaxgen.study.spec import MODES, check_range
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, content_hash
from jaxgen.system.options import computing
from jaxgen.training.keys import evaluation_key
from jaxgen.types import HostTask, Task

COLUMNS = (
    "environment", "algorithm", "arm", "seed", "mode", "level", "episodes", "mean",
    "standard_error", "run",
)  # fmt: skip


class Asked(NamedTuple):
    """Levels and episodes that the agents of a folder are to play."""

    levels: tuple[float, ...]
    episodes: int
    """Of each level, fixed by the study's seed: the same for all agents."""
    per_episode: bool
    """Write the return of every episode, too."""

    def validate(self) -> None:
        """Raise BadInput for a level outside of [0, 1], or given twice, or too few episodes."""
        check_range(self.levels)
        for level in self.levels:
            if self.levels.count(level) > 1:
                raise BadInput(f"level {level:g} is given twice; name each level once")
        if self.episodes < 2:
            raise BadInput(f"episodes = {self.episodes} is not allowed; use 2 or more")


class Evaluated(NamedTuple):
    """Returns of the agents of a folder, in files and in words."""

    files: list[str]
    """Paths of what was written."""
    lines: list[str]
    """A table of means over seeds for each environment."""
    left_aside: list[str]
    """Runs without an agent, or with a damaged one."""


@computing()
def evaluate_store(
    store: Store, make_task: Callable[..., Task | HostTask], asked: Asked
) -> Evaluated:
    """Evaluate all agents of a results folder; nothing is trained, and no result is changed.

    Args:
      store: the folder; the caller holds its lock.
      make_task: (registry name, **options) -> Task.
      asked: levels and episodes.

    Raises:
      BadInput: the folder holds no agents, or as `Asked.validate` says.
    """
    asked.validate()
    rows: list[dict[str, Any]] = []
    episodes: list[tuple[Any, ...]] = []
    left_aside: list[str] = []
    suites: dict[str, Suite] = {}
    for spec, agent in _kept(store, left_aside):
        key = content_hash([spec["environment"], spec["task_options"], spec["study_seed"]])
        if key not in suites:
            suites[key] = _suite(make_task, spec, asked)
        for mode in MODES:
            returns, facts = returns_of(agent, suites[key], mode), _facts(spec, agent, mode)
            rows += _rows(facts, asked, returns)
            if asked.per_episode:
                episodes += _episode_rows(facts, asked, returns)
    if not rows:
        raise BadInput(
            f"{store.root} holds no {AGENT} of a finished run; agents are kept unless --no-agents "
            "was given"
        )
    return Evaluated(_write(store, asked, rows, episodes), _table(rows), left_aside)


def _kept(store: Store, left_aside: list[str]) -> Iterator[tuple[dict[str, Any], Agent]]:
    """The spec and the agent of each seed; words about others are added to the last argument."""
    for name in store.run_names():
        try:
            spec = store.read_spec(name)
        except DamagedFile as damage:
            left_aside.append(str(damage))
            continue
        for seed in store.seeds(name):
            try:
                agent = load_agent(store.check_agent(name, seed))
            except DamagedFile as damage:
                left_aside.append(str(damage))
                continue
            if agent.fault:
                left_aside.append(f"{name} seed {seed} diverged: {agent.fault}")
            else:
                yield spec, agent


def _suite(make_task: Callable[..., Task | HostTask], spec: dict[str, Any], asked: Asked) -> Suite:
    task = make_task(spec["environment"], **spec["task_options"])
    return make_suite(task, evaluation_key(spec["study_seed"]), asked.levels, asked.episodes)


def _facts(spec: dict[str, Any], agent: Agent, mode: str) -> dict[str, Any]:
    arm = arm_name(spec["technique"], spec.get("overrides") or {})
    place = {key: spec[key] for key in ("environment", "algorithm")}
    return place | {"arm": arm, "seed": agent.seed, "mode": mode, "run": agent.run}


def _rows(facts: dict[str, Any], asked: Asked, returns: np.ndarray) -> list[dict[str, Any]]:
    errors = standard_error(returns)
    return [
        facts | {
            "level": level, "episodes": asked.episodes,
            "mean": float(returns[k].mean(dtype=np.float64)), "standard_error": float(errors[k]),
        }
        for k, level in enumerate(asked.levels)
    ]  # fmt: skip


def _episode_rows(
    facts: dict[str, Any], asked: Asked, returns: np.ndarray
) -> list[tuple[Any, ...]]:
    return [
        (facts["run"], facts["seed"], facts["mode"], level, episode, f"{value:.9g}")
        for level, row in zip(asked.levels, returns, strict=True)
        for episode, value in enumerate(row)
    ]


def _write(
    store: Store, asked: Asked, rows: list[dict[str, Any]], episodes: list[tuple[Any, ...]]
) -> list[str]:
    """Files whose names say how many levels and episodes there are, and hold what was asked for."""
    digest = content_hash([list(asked.levels), asked.episodes])
    name = f"evaluations/{len(asked.levels)}_levels_{asked.episodes}_episodes-{digest}"
    table = [COLUMNS, *([row[column] for column in COLUMNS] for row in rows)]
    files = [store.write_text(f"{name}.csv", table_text(table))]
    if asked.per_episode:
        header = ("run", "seed", "mode", "level", "episode", "return")
        files.append(store.write_text(f"{name}_returns.csv", table_text([header, *episodes])))
    return [str(file) for file in files]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Mean greedy returns over seeds, a row for each cell and a column for each level."""
    cells: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in rows:
        if row["mode"] == MODES[0]:
            levels = cells.setdefault((row["environment"], row["run"]), {})
            levels.setdefault(row["level"], []).append(row["mean"])
    lines, last = [], None
    for (environment, run), levels in cells.items():
        if environment != last:
            head = "".join(f"{f'J({level:g})':>9}" for level in levels)
            lines += ["", f"{figure_title(environment)} (greedy, mean over n seeds)",
                      f"  {'run':50}    n{head}"]  # fmt: skip
        last, n = environment, len(next(iter(levels.values())))
        means = "".join(f"{np.mean(values):9.4g}" for values in levels.values())
        lines.append(f"  {run:50} {n:4d}{means}")
    return lines

"""Rows for TensorBoard and Weights & Biases from histories and results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgen.results.records import EPISODES
from jaxgen.results.result import trim_history
from jaxgen.running.reporter import History
from jaxgen.study.spec import RunSpec

MAX_ROWS = 500
"""Parts of a budget, from each of which a metric gets one row."""


class Run(NamedTuple):
    """A seed of a cell: the run's name in the store, and its seed."""

    name: str
    seed: int


class Row(NamedTuple):
    """Values by name at a number of env steps."""

    env_steps: int
    values: dict[str, float]


class Sink(Protocol):
    """A writer of runs; whatever it raises, training goes on without it."""

    name: str
    """Its name in messages."""

    def has(self, run: Run) -> bool:
        """Whether the run was finished here, by this process or an earlier one."""
        ...

    def start(self, run: Run, spec: RunSpec) -> None:
        """Begin a run, without anything that an earlier process wrote of it."""
        ...

    def write(self, run: Run, rows: Sequence[Row]) -> None:
        """Add rows to a run that was started; env steps increase."""
        ...

    def finish(self, run: Run, scores: Row) -> None:
        """Add the final scores: nothing of the run is missing then."""
        ...

    def close(self) -> None:
        """Let go of all runs, also of those that were not finished."""
        ...


class Cursor(NamedTuple):
    """How much of a lane's history was made into rows."""

    iterations: int
    points: int


START = Cursor(0, 0)

_Points = Iterator[tuple[int, dict[str, float]]]


def new_rows(
    history: Mapping[str, np.ndarray], total_steps: int, cursor: Cursor = START, ended: bool = True
) -> tuple[list[Row], Cursor]:
    """Make what is new in a lane's history into rows, by increasing env steps.

    Args:
      history: metrics ``[I]`` from the first iteration on, and points ``[C]`` of the learning
        curve, in memory or as stored; other arrays are no scalars and are left out.
      total_steps: the run's budget.
      cursor: how much was made into rows before.
      ended: nothing follows. Otherwise the last part of the budget that has iterations waits, as
        more of them may be to come.

    Returns:
      The rows, and the cursor behind them.
    """
    metrics = trim_history({
        name: values[cursor.iterations :] for name, values in history.items() if _is_metric(name)
    })
    windows, iterations = _thin(metrics, total_steps, ended)
    points, num_points = _new_points(history, cursor.points)
    rows: dict[int, dict[str, float]] = {}
    for env_steps, series in (*windows, *points):
        for name, value in series.items():
            if np.isfinite(value):
                rows.setdefault(int(env_steps), {})[name] = float(value)
    in_order = [Row(env_steps, rows[env_steps]) for env_steps in sorted(rows)]
    return in_order, Cursor(cursor.iterations + iterations, num_points)


def _is_metric(name: str) -> bool:
    return not name.startswith(("eval_", "probe_", EPISODES))


def _thin(metrics: History, total_steps: int, ended: bool) -> tuple[_Points, int]:
    """Means over the parts of the budget, and of how many iterations they are."""
    env_steps = metrics["env_steps"].astype(np.int64)
    part = env_steps * MAX_ROWS // total_steps
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    if not ended and len(starts):
        starts, stop = starts[:-1], int(starts[-1])
    else:
        stop = len(env_steps)
    if not stop:
        return iter(()), 0
    at = env_steps[np.append(starts[1:], stop) - 1]
    means = {
        f"train/{name}": _means(values[:stop], starts)
        for name, values in metrics.items()
        if values.ndim == 1 and name != "env_steps"
    }
    return _columns(at, means), stop


def _means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Means ``[R]`` of what is finite among values ``[I]`` from each start to the next."""
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0), starts, dtype=np.float64)
    counts = np.add.reduceat(finite, starts, dtype=np.int64)
    return np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)


def _new_points(history: Mapping[str, np.ndarray], num_before: int) -> tuple[_Points, int]:
    """Points of the learning curve; one at which a resting lane repeats itself is none."""
    if "eval_return" not in history:
        return iter(()), num_before
    env_steps = history["eval_env_steps"]
    new = np.diff(env_steps, prepend=-1) > 0
    new[:num_before] = False
    return _columns(env_steps[new], {"eval/return": history["eval_return"][new]}), len(env_steps)


def _columns(env_steps: np.ndarray, series: Mapping[str, np.ndarray]) -> _Points:
    for index, at in enumerate(env_steps.tolist()):
        yield at, {name: values[index] for name, values in series.items()}


def final_scores(result: Mapping[str, Any]) -> Row:
    """The numbers of a result.json that sum a run up, at its last env steps.

    Scores and mean returns of each mode, agreement by source; what is null is left out.
    """
    values = {"final/diverged": float(result["status"] == "diverged")}
    for mode, scores in (result["scores"] or {}).items():
        values |= _numbers(f"final/{mode}", scores)
    evaluation = result["evaluation"] or {"modes": {}}
    for mode, returns in evaluation["modes"].items():
        by_level = zip(evaluation["levels"], returns["mean"], strict=True)
        values |= {f"final/{mode}/return_at_{level:g}": mean for level, mean in by_level}
    for source, agreement in result["gas"].items():
        values |= _numbers(f"final/gas_{source}", agreement or {})
    return Row(result["env_steps"]["actual"], values)


def _numbers(prefix: str, scores: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    return {f"{prefix}/{name}": float(value) for name, value in numbers.items()}

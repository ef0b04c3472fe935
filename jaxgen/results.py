"""From arrays of a trained group to the files of its runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgen.config import Config
from jaxgen.evaluation.agreement import score_agreement, score_probe
from jaxgen.evaluation.episodes import MODES, make_suite, random_returns
from jaxgen.evaluation.host_episodes import make_host_suite, random_host_returns
from jaxgen.evaluation.scores import score_curve
from jaxgen.store import SCHEMA
from jaxgen.study import Evaluation, RunSpec
from jaxgen.types import Array, EpisodeKinds, HostTask, Task, is_host

FINAL_MEANS = ("agree_ref", "agree_pair", "approx_kl", "clip_fraction", "explained_variance")
"""Training metrics whose mean over all iterations goes into a result, where they exist."""
VALUE_LOSS = {"ppo": "value_loss", "dqn": "loss"}
"""By which name an algorithm's history has the loss of its values; ES has none."""


class References(NamedTuple):
    """The fixed evaluation episodes of an environment with their floor and ceiling."""

    suite: Any
    """A `Suite`, or a `HostSuite` of a host environment."""
    floor: np.ndarray
    """Mean return of the uniform random policy at each level, float64 ``[K]``."""
    floor_standard_error: np.ndarray
    ceiling: np.ndarray
    """Mean best return that the same episodes allow, float64 ``[K]``."""
    prints: Array | None
    """Fingerprints of the evaluation instances, uint32 ``[K, E]``; None: nothing generated."""
    kinds: EpisodeKinds | None = None
    """Of the episodes, where a level mixes some."""
    kind_floor: np.ndarray | None = None
    """Mean return of the uniform random policy by level and kind, float64 ``[K, kinds]``; NaN where
    a level has none of a kind."""


def make_references(task: Task | HostTask, evaluation: Evaluation, key: Array) -> References:
    """Lay out the evaluation episodes and measure what random and best play reach there."""
    if is_host(task):
        return _host_references(task, evaluation, key)
    suite = make_suite(task, key, evaluation.levels, evaluation.episodes)
    random = np.asarray(random_returns(task, suite), np.float64)
    best = np.asarray(task.ceiling(suite.params, suite.words), np.float64)
    prints = task.fingerprints(suite.params)
    return References(suite, random.mean(1), _standard_error(random), best.mean(1), prints)


def _host_references(task: HostTask, evaluation: Evaluation, key: Array) -> References:
    suite = make_host_suite(task, key, evaluation.levels, evaluation.episodes)
    random = random_host_returns(task.spec, suite).astype(np.float64)
    kinds = task.kinds(evaluation.levels, evaluation.episodes)
    best = kinds.high[kinds.index].mean(1)
    kind_floor = _by_kind(kinds, random)
    return References(
        suite, random.mean(1), _standard_error(random), best, None, kinds, kind_floor
    )


def _by_kind(kinds: EpisodeKinds, values: np.ndarray) -> np.ndarray:
    """Means ``[K, kinds]`` of values ``[K, E]``; NaN where a level has none of a kind."""
    means = np.full((len(values), len(kinds.names)), np.nan)
    for level, (own, index) in enumerate(zip(values, kinds.index, strict=True)):
        for kind in np.unique(index):
            means[level, kind] = own[index == kind].mean(dtype=np.float64)
    return means


def normalised_by_kind(references: References, returns: np.ndarray) -> np.ndarray | None:
    """s(v) ``[K]`` of returns ``[K, E]``, each kind on its own scale; None: there are no kinds."""
    kinds, floor = references.kinds, references.kind_floor
    if kinds is None or floor is None:
        return None
    shares = np.stack([(kinds.index == kind).mean(1) for kind in range(len(kinds.names))], axis=1)
    s = (_by_kind(kinds, returns) - floor) / (kinds.high - floor)
    return np.where(shares > 0, s * shares, 0.0).sum(1)


def make_result(
    spec: RunSpec,
    seed: int,
    returns: np.ndarray,
    references: References,
    history: Mapping[str, np.ndarray],
    diverged: bool,
    seen: np.ndarray | None,
) -> dict[str, Any]:
    """The content of result.json: everything that is determined by spec and seed.

    Args:
      spec: the run's cell.
      seed: its training seed.
      returns: of the final policy, ``[modes, K, E]``.
      references: floor and ceiling on the same episodes.
      history: metrics ``[I]`` by name, and the points of the learning curve.
      diverged: parameters are not finite; there is no evaluation then.
      seen: evaluation instances that occurred in training, bool ``[K, E]``, or None.
    """
    run = {
        "algorithm": spec.algorithm,
        "environment": spec.environment,
        "technique": spec.technique,
        "seed": seed,
        "experiment": spec.experiment,
        "name": spec.name,
    }
    return {
        "schema": SCHEMA,
        "run": run,
        "quick": spec.quick,
        "status": "diverged" if diverged else "done",
        "env_steps": {
            "requested": spec.config.total_steps,
            "actual": int(history["env_steps"][-1]),
        },
        "evaluation": None if diverged else _evaluation(spec.evaluation, returns),
        "references": {
            "floor": references.floor.tolist(),
            "floor_standard_error": references.floor_standard_error.tolist(),
            "ceiling": references.ceiling.tolist(),
        },
        "scores": None if diverged else _scores(spec.evaluation, returns, references),
        "kinds": None if diverged else _kinds(references, returns),
        "training": _training(history, spec.technique_values.compares_variations)
        | _predictors(history, spec.base),
        "gas": _gas(spec, history),
        "layout_overlap": None if seen is None else seen.mean(1).tolist(),
    }


def trim_history(history: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drop the iterations in which a lane had used its budget and rested."""
    active = history["active"] > 0 if "active" in history else slice(None)
    return {name: values[active] for name, values in history.items() if name != "active"}


def _evaluation(evaluation: Evaluation, returns: np.ndarray) -> dict[str, Any]:
    modes = {
        mode: {
            "mean": returns[i].mean(1, dtype=np.float64).tolist(),
            "standard_error": _standard_error(returns[i]).tolist(),
        }
        for i, mode in enumerate(MODES)
    }
    return {"levels": list(evaluation.levels), "episodes": evaluation.episodes, "modes": modes}


def _scores(
    evaluation: Evaluation, returns: np.ndarray, references: References
) -> dict[str, dict[str, Any]]:
    return {
        mode: score_curve(
            evaluation.levels,
            returns[i].mean(1, dtype=np.float64),
            references.floor,
            references.ceiling,
            _standard_error(returns[i])[0],
            references.floor_standard_error[0],
            min_s0=evaluation.min_s0,
            normalised=normalised_by_kind(references, returns[i]),
        ).to_dict()
        for i, mode in enumerate(MODES)
    }


def _kinds(references: References, returns: np.ndarray) -> dict[str, Any] | None:
    """Means over all episodes of each kind, also as the published normalisation has them."""
    if references.kinds is None:
        return None
    names, index, low, high = references.kinds
    found = {}
    for kind, name in enumerate(names):
        own = index == kind
        if own.any():
            means = [float(by_mode[own].mean(dtype=np.float64)) for by_mode in returns]
            scaled = [(mean - low[kind]) / (high[kind] - low[kind]) for mean in means]
            found[name] = {
                "episodes": int(own.sum()),
                "mean": dict(zip(MODES, means, strict=True)),
                "normalised": dict(zip(MODES, map(float, scaled), strict=True)),
            }
    return found


def _training(history: Mapping[str, np.ndarray], compares_variations: bool) -> dict[str, Any]:
    totals = {
        name: int(np.nansum(history[name], dtype=np.float64))
        for name in ("updates", "skipped_updates", "episodes")
    }
    means = {
        name: _mean(history[name]) if compares_variations or "agree" not in name else None
        for name in FINAL_MEANS
        if name in history
    }
    return {**totals, **means, "iterations": len(history["env_steps"])}


def _predictors(history: Mapping[str, np.ndarray], base: str) -> dict[str, float | None]:
    """What could predict generalisation without comparing gradients, as `score_agreement` does.

    Training return, loss of the values and norm of the gradient, each over the first and the last
    quarter of the iterations; null where there is none.
    """
    value_loss = VALUE_LOSS.get(base)
    sources = {"train_return": "reward", "value_loss": value_loss, "grad_norm": "grad_norm"}
    quarter = max(1, len(history["env_steps"]) // 4)
    parts = {"first": slice(quarter), "last": slice(-quarter, None)}
    return {
        f"{name}_{part}": _mean(history[source][window]) if source else None
        for name, source in sources.items()
        for part, window in parts.items()
    }


def _gas(spec: RunSpec, history: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """GAS by source: null where updates compare no variations, or where nothing was probed."""
    train = probe = None
    if spec.technique_values.compares_variations and not np.isnan(history["agree_pair"]).all():
        train = score_agreement(history["agree_pair"]).to_dict()
    if "probe_gram" in history:
        probe = score_probe(history["probe_gram"], independent=spec.base != "es").to_dict()
    return {"train": train, "probe": probe}


def total_decay(config: Config, weight_decay: float, updates: int) -> float:
    """The share by which decoupled weight decay alone shrinks weights over a whole training."""
    return 1.0 - (1.0 - config.learning_rate * weight_decay) ** updates


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if len(finite) else None


def _standard_error(returns: np.ndarray) -> np.ndarray:
    return returns.std(1, ddof=1, dtype=np.float64) / returns.shape[1] ** 0.5

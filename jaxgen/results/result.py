"""The content of result.json: what a training and an evaluation say of one run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxgen.evaluation.agreement import score_agreement, score_probe
from jaxgen.evaluation.returns import score_returns, standard_error
from jaxgen.evaluation.scores import LEVELS_ID
from jaxgen.study.config import Config
from jaxgen.study.presets import algorithm_card
from jaxgen.study.spec import MODES, Evaluation, RunSpec
from jaxgen.system.files import SCHEMA

if TYPE_CHECKING:
    from jaxgen.evaluation.references import References

FINAL_MEANS = ("agree_ref", "agree_pair", "approx_kl", "clip_fraction", "explained_variance")
"""Training metrics whose mean over all iterations goes into a result, where they exist."""


class Trained(NamedTuple):
    """One seed of a cell, trained and evaluated."""

    spec: RunSpec
    seed: int
    params: np.ndarray
    """The final parameters ``[D]``."""
    returns: np.ndarray
    """The final policy's returns, ``[modes, K, E]``."""
    history: Mapping[str, np.ndarray]
    """Metrics ``[I]`` by name, of iterations that trained, and points of the learning curve."""
    seen: np.ndarray | None
    """Evaluation instances that occurred in training, bool ``[K, E]``; None: not counted."""

    @property
    def fault(self) -> str | None:
        """The parameters or metrics that are not finite, in words; None: the run did not diverge.

        See `fault_of`.
        """
        return fault_of(self.params, self.history)


def fault_of(params: np.ndarray, history: Mapping[str, np.ndarray]) -> str | None:
    """Why a training diverged, in words; None: it did not.

    A population that ranks its members by returns that are NaN or infinite keeps finite parameters.

    Args:
      params: the final ones ``[D]``.
      history: metrics ``[I]`` of iterations that trained, ``loss`` and ``updates`` among them.
    """
    if not np.isfinite(params).all():
        return "its parameters are not finite"
    faults = {"its loss is not finite": ~np.isfinite(history["loss"]) & (history["updates"] > 0)}
    if "reward" in history:
        faults["its training return is infinite"] = np.isinf(history["reward"])
    for fault, where in faults.items():
        if where.any():
            return f"{fault} in iteration {where.argmax()}"
    return None


def make_result(trained: Trained, references: "References") -> dict[str, Any]:
    """Everything that is determined by spec and seed; a run that diverged has no evaluation.

    Args:
      trained: the run.
      references: floor and ceiling on the same episodes.
    """
    spec, seed, _, returns, history, seen = trained
    diverged = trained.fault is not None
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
        "scores": None if diverged else _scores(spec, returns, references),
        "kinds": None if diverged else _kinds(references, returns),
        "training": _training(spec, history, diverged)
        | _predictors(history, algorithm_card(spec.algorithm).facts.value_loss),
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
            "standard_error": standard_error(returns[i]).tolist(),
        }
        for i, mode in enumerate(MODES)
    }
    return {"levels": list(evaluation.levels), "episodes": evaluation.episodes, "modes": modes}


def _scores(
    spec: RunSpec, returns: np.ndarray, references: "References"
) -> dict[str, dict[str, Any]]:
    scores = {
        mode: score_returns(spec.evaluation, references, returns[i]).to_dict()
        for i, mode in enumerate(MODES)
    }
    if max(spec.technique_values.levels) > max(LEVELS_ID):
        # The arm trains on levels that are unseen for all others, or nearer to them.
        scores = {mode: values | {"A_ood": None} for mode, values in scores.items()}
    return scores


def _kinds(references: "References", returns: np.ndarray) -> dict[str, Any] | None:
    """Means over all episodes of each kind, also as the published normalisation has them."""
    if references.kinds is None:
        return None
    names, index, low, high = references.kinds
    summaries = {}
    for kind, name in enumerate(names):
        of_kind = index == kind
        if of_kind.any():
            means = [float(by_mode[of_kind].mean(dtype=np.float64)) for by_mode in returns]
            summaries[name] = {
                "episodes": int(of_kind.sum()),
                "mean": dict(zip(MODES, means, strict=True)),
                "normalised": None,
            }
            if np.isfinite(low[kind]):
                scaled = [(mean - low[kind]) / (high[kind] - low[kind]) for mean in means]
                summaries[name]["normalised"] = dict(zip(MODES, map(float, scaled), strict=True))
    return summaries


def _training(
    spec: RunSpec, history: Mapping[str, np.ndarray], diverged: bool
) -> dict[str, Any]:
    technique = spec.technique_values
    totals = {
        name: int(np.nansum(history[name], dtype=np.float64))
        for name in ("updates", "skipped_updates", "episodes")
    }
    means = {
        name: _mean(history[name])
        if technique.compares_variations or "agree" not in name
        else None
        for name in FINAL_MEANS
        if name in history
    }
    num_updates = totals["updates"] - totals["skipped_updates"]
    shrink = None if diverged else total_decay(spec.config, technique.weight_decay, num_updates)
    return {
        **totals, **means, "iterations": len(history["env_steps"]), "weight_shrink": shrink
    }  # fmt: skip


def _predictors(
    history: Mapping[str, np.ndarray], value_loss: str | None
) -> dict[str, float | None]:
    """Numbers that could predict generalisation without comparing gradients.

    Training return, loss of the values and norm of the gradient, each over the first and the last
    quarter of the iterations; null where there is none.
    """
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
        independent = algorithm_card(spec.algorithm).facts.independent_halves
        probe = score_probe(history["probe_gram"], independent).to_dict()
    return {"train": train, "probe": probe}


def total_decay(config: Config, weight_decay: float, updates: int) -> float:
    """The share by which decoupled weight decay alone shrinks weights over a whole training."""
    return 1.0 - (1.0 - config.learning_rate * weight_decay) ** updates


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if len(finite) else None

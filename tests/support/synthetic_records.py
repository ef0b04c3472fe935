"""Made-up records that look like real ones, for the tests of tables and figures."""

from typing import Any

import numpy as np

from jaxgen.evaluation.scores import score_curve
from jaxgen.results.records import Record
from jaxgen.study.arms import arm_name

LEVELS = [0.0, 0.25, 0.5, 0.75, 1.0]
REFERENCES = {
    "cartpole": ([22.4, 27.3, 31.8, 35.9, 39.2], [500.0] * 5),
    "minigrid": ([0.43, 0.33, 0.14, 0.09, 0.04], [0.954, 0.947, 0.93, 0.923, 0.907]),
    "starpilot": ([1.5, 1.5, 1.5, 1.2, 0.84], [64.0, 64.0, 64.0, 49.5, 35.0]),
}
TRAINING_LEVELS = {"dr": [0.0, 0.25, 0.5], "gar": [0.0, 0.25, 0.5]}
GAIN = {"baseline": 0.0, "reg": 0.01, "dr": 0.12, "dr+reg": 0.13, "gar": 0.14, "gar+reg": 0.15}
ES_ALIASES = {"gar": "baseline", "gar+reg": "reg"}


def run_name(algorithm: str, environment: str, technique: str, digest: str = "0a1b2c3d") -> str:
    """Name of a run's folder."""
    return f"{algorithm}_{environment}_{technique}-{digest}"


def make_record(
    algorithm: str = "ppo",
    environment: str = "cartpole",
    technique: str = "baseline",
    seed: int = 0,
    *,
    s: list[float] | None = None,
    diverged: bool = False,
    quick: bool = False,
    digest: str = "0a1b2c3d",
    total_steps: int = 50_000,
    iterations: int = 130,
) -> Record:
    """A record whose normalised greedy returns are ``s``, by default a decay that looks real."""
    is_alias = algorithm == "es" and technique in ES_ALIASES
    trained = ES_ALIASES[technique] if is_alias else technique
    generator = np.random.default_rng([seed, sum(map(ord, algorithm + environment + trained))])
    floor, ceiling = map(np.array, REFERENCES[environment])
    if s is None:
        decay = np.linspace(0.9, 0.35 + GAIN.get(trained, 0), 5)
        s = list(np.clip(decay + 0.05 * generator.normal(size=5), 0, 1))
    greedy = floor + np.array(s) * (ceiling - floor)
    modes = {"greedy": greedy, "sampled": floor + 0.95 * (greedy - floor)}
    alias_of = run_name(algorithm, environment, trained, digest) if is_alias else None
    spec = make_spec(algorithm, environment, technique, total_steps, quick) | {"alias_of": alias_of}
    error = 0.01 * float(ceiling[0])
    agrees = technique.startswith(("dr", "gar")) and algorithm != "es"
    result: dict[str, Any] = {
        "schema": 1,
        "run": {
            "algorithm": algorithm,
            "environment": environment,
            "technique": technique,
            "seed": seed,
            "experiment": f"{algorithm}_{environment}_{technique}",
            "name": run_name(algorithm, environment, technique, digest),
        },
        "quick": quick,
        "status": "diverged" if diverged else "done",
        "env_steps": {"requested": total_steps, "actual": total_steps // 384 * 384},
        "evaluation": None if diverged else make_evaluation(modes, error),
        "references": {
            "floor": floor.tolist(),
            "floor_standard_error": [error] * 5,
            "ceiling": ceiling.tolist(),
        },
        "scores": None if diverged else make_scores(modes, floor, ceiling, error),
        "training": make_training(generator, algorithm, technique, seed, greedy, agrees),
        "gas": {
            "train": make_gas(0.2 + 0.02 * generator.normal()) if agrees else None,
            "probe": make_gas(0.3 * s[4] + 0.02 * generator.normal()),
        },
        "layout_overlap": [0.02, 0.01, 0.0, 0.0, 0.0] if environment == "minigrid" else None,
    }
    seconds = {"compile": 9.5, "train": 36.0, "evaluate": 4.5}
    provenance = {"seconds": seconds, "program": f"{algorithm}_{environment}"}
    history = make_history(generator, algorithm, float(greedy[0]), total_steps, iterations)
    return Record(spec, seed, result, history, provenance)


def make_scores(
    modes: dict[str, Any], floor: Any, ceiling: Any, error: float
) -> dict[str, dict[str, Any]]:
    """The scores of the returns of each mode ``[K]``."""
    return {
        mode: score_curve(LEVELS, curve, floor, ceiling, error, error).to_dict()
        for mode, curve in modes.items()
    }


def with_overrides(record: Record, **overrides: Any) -> Record:
    """The same record with hyper-parameters of its own."""
    spec = {**record.spec, "overrides": overrides}
    arm = arm_name(record.technique, overrides)
    name = run_name(record.algorithm, record.environment, arm)
    run = record.result["run"] | {"name": name, "experiment": name.rsplit("-", 1)[0]}
    return record._replace(spec=spec, result={**record.result, "run": run})


def make_spec(
    algorithm: str, environment: str, technique: str, total_steps: int, quick: bool
) -> dict[str, Any]:
    """The demands of a run, as far as a report speaks of them."""
    config: dict[str, Any] = {"total_steps": total_steps, "learning_rate": 3e-4}
    if algorithm.startswith("dqn"):
        config["encoding"] = "one_hot" if algorithm == "dqn-onehot" else "unit"
    return {
        "schema": 1,
        "algorithm": algorithm,
        "base": algorithm.split("-")[0].rstrip("+"),
        "environment": environment,
        "technique": technique,
        "levels": TRAINING_LEVELS.get(technique.split("+")[0], [0.0]),
        "config": config,
        "evaluation": {"levels": LEVELS, "episodes": 1000},
        "quick": quick,
    }


def make_evaluation(modes: dict[str, np.ndarray], error: float) -> dict[str, Any]:
    """Mean returns at each level, by mode, all with the same standard error."""
    return {
        "levels": LEVELS,
        "episodes": 1000,
        "modes": {
            mode: {"mean": curve.tolist(), "standard_error": [error] * 5}
            for mode, curve in modes.items()
        },
    }


def make_training(
    generator: np.random.Generator, algorithm: str, technique: str, seed: int,
    greedy: np.ndarray, agrees: bool,
) -> dict[str, Any]:
    """Scalars of a training."""
    return {
        "agree_ref": 0.61 + 0.01 * seed if agrees else None,
        "agree_pair": 0.23 + 0.01 * seed if agrees else None,
        "skipped_updates": 0,
        "updates": 5200,
        "weight_shrink": 0.0016 if "reg" in technique else None,
        "train_return_first": 0.3 * float(greedy[0]),
        "train_return_last": 0.9 * float(greedy[0]),
        "value_loss_first": None if algorithm == "es" else 2.0 + 0.1 * generator.normal(),
        "value_loss_last": None if algorithm == "es" else 1.0 + 0.1 * generator.normal(),
        "grad_norm_first": 0.5 + 0.1 * generator.normal(),
        "grad_norm_last": 0.4 + 0.1 * generator.normal(),
    }


def make_gas(raw: float) -> dict[str, float | None]:
    """GAS in all its forms."""
    return {"raw": raw, "first": 1.5 * raw, "last": 0.5 * raw, "corrected": 2 * raw,
            "reliability": 0.5}  # fmt: skip


def make_history(
    generator: np.random.Generator, algorithm: str, last: float, total_steps: int, iterations: int
) -> dict[str, np.ndarray]:
    """A noisy rise to ``last``; the first iterations finish no episode."""
    progress = np.linspace(0, 1, iterations)
    rise = last * (1 - np.exp(-4 * progress))
    reward = rise * (1 + 0.15 * generator.normal(size=iterations))
    reward[:3] = np.nan
    steps = np.linspace(total_steps / iterations, total_steps, iterations).astype(np.int64)
    history = {
        "env_steps": steps,
        "reward": reward.astype(np.float32),
        "loss": (np.exp(-3 * progress) + 0.1 * generator.normal(size=iterations) ** 2).astype("f4"),
        "eval_env_steps": steps[:: max(1, iterations // 20)],
        "eval_return": (rise * 1.05)[:: max(1, iterations // 20)].astype(np.float32),
    }
    if algorithm == "dqn":
        history["epsilon"] = np.maximum(0.05, 1 - 0.95 * progress / 0.7).astype(np.float32)
    return history


def make_study(
    environments: tuple[str, ...] = ("cartpole", "minigrid"),
    algorithms: tuple[str, ...] = ("ppo", "dqn", "es"),
    seeds: tuple[int, ...] = (0, 1, 2),
    **kwargs: Any,
) -> list[Record]:
    """Every cell of the study; DQN on the grid learns nothing."""
    return [
        make_record(
            algorithm,
            environment,
            technique,
            seed,
            s=_failure(environment) if (algorithm, environment) == ("dqn", "minigrid") else None,
            total_steps=50_000 if environment == "cartpole" else 1_000_000,
            **kwargs,
        )
        for environment in environments
        for algorithm in algorithms
        for technique in GAIN
        for seed in seeds
    ]


def _failure(environment: str) -> list[float]:
    """Normalised returns of a policy that runs into every time limit: J = -.1."""
    floor, ceiling = map(np.array, REFERENCES[environment])
    return list((-0.1 - floor) / (ceiling - floor))

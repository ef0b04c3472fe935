"""One run as data: everything that decides its results, and the name that follows from it."""

from dataclasses import dataclass, field
from typing import Any

from jaxgen.study.config import SHIFT_LEVELS, Config, base_algorithm, to_dict
from jaxgen.system import files
from jaxgen.system.errors import BadInput
from jaxgen.techniques import Technique, make_technique

MODES = ("greedy", "sampled")
"""Greedy takes the best action; sampled draws (categorical, or epsilon .05 for Q-values)."""


@dataclass(frozen=True)
class Evaluation:
    """How the final policies are evaluated."""

    levels: tuple[float, ...] = SHIFT_LEVELS
    episodes: int = 1000
    """Episodes per level, common to all runs."""
    curve_episodes: int = 100
    """Episodes per point of a learning curve, at level 0."""
    probe: bool = False
    """Measure the agreement of the variations' gradients at each of these points."""
    min_s0: float = 0.10
    """Least s(0) of a policy that learned."""

    def validate(self) -> None:
        """Raise ValueError on levels outside [0, 1], unsorted or without 0, or too few episodes."""
        for level in self.levels:
            if not 0 <= level <= 1:
                raise BadInput(f"variation level {level!r} is outside [0, 1]")
        if list(self.levels) != sorted(set(self.levels)) or 0.0 not in self.levels:
            raise BadInput(f"levels {self.levels!r} must increase and begin with 0")
        if self.episodes < 2:
            raise BadInput(f"episodes = {self.episodes!r} is not allowed; use 2 or more")
        if self.curve_episodes < 1:
            raise BadInput(
                f"curve_episodes = {self.curve_episodes!r} is not allowed; use 1 or more"
            )


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the results of a cell; its hash names the folder of its runs."""

    algorithm: str
    environment: str
    technique: str
    config: Config
    task_options: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    study_seed: int = 0
    quick: bool = False
    alias_of: str | None = None
    """Run name of the arm that this one is by another name."""

    @property
    def base(self) -> str:
        """The algorithm behind a preset's name."""
        return base_algorithm(self.algorithm)

    @property
    def experiment(self) -> str:
        """``<algorithm>_<environment>_<technique>``."""
        return f"{self.algorithm}_{self.environment}_{self.technique}"

    @property
    def name(self) -> str:
        """The experiment with the content hash: the folder's name."""
        return f"{self.experiment}-{files.content_hash(self.to_dict())}"

    @property
    def technique_values(self) -> Technique:
        """The technique as numbers."""
        return make_technique(self.technique)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content of spec.json."""
        values = self.technique_values
        technique = values._asdict() | {"levels": list(values.levels), "rule": values.rule.value}
        return {
            "schema": files.SCHEMA,
            "algorithm": self.algorithm,
            "base": self.base,
            "environment": self.environment,
            "technique": self.technique,
            "technique_values": technique,
            "config": to_dict(self.config),
            "task_options": dict(self.task_options),
            "evaluation": {
                "levels": list(self.evaluation.levels),
                "episodes": self.evaluation.episodes,
                "curve_episodes": self.evaluation.curve_episodes,
                "probe": self.evaluation.probe,
                "min_s0": self.evaluation.min_s0,
            },
            "study_seed": self.study_seed,
            "quick": self.quick,
            "alias_of": self.alias_of,
        }

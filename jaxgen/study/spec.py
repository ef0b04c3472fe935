"""One run as data: everything that decides its results, and the name that follows from it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxgen import techniques
from jaxgen.study.arms import Arm, Value
from jaxgen.study.config import SHIFT_LEVELS, Config, json_ready, replace, to_dict
from jaxgen.study.fork import Fork
from jaxgen.study.presets import base_algorithm
from jaxgen.system import files
from jaxgen.system.errors import BadInput
from jaxgen.techniques import Technique, make_technique

MODES = ("greedy", "sampled")
"""Greedy takes the best action; sampled draws (categorical, or epsilon .05 for Q-values)."""


def begun_word(agent: str | None) -> str:
    """The end of an arm's name that tells which agent it began with."""
    return f"@start={agent}" if agent else ""


def check_range(levels: Iterable[float]) -> None:
    """Raise BadInput for a variation level outside [0, 1], NaN among them."""
    for level in levels:
        if not 0 <= level <= 1:
            raise BadInput(f"variation level {level!r} is outside [0, 1]; leave it out")


@dataclass(frozen=True)
class Evaluation:
    """How the final policies are evaluated."""

    levels: tuple[float, ...] = SHIFT_LEVELS
    episodes: int = 1000
    """Episodes per level, common to all runs."""
    curve_episodes: int = 100
    """Episodes per point of a learning curve, at each of its levels."""
    probe: bool = False
    """Measure the agreement of the variations' gradients at each of these points."""
    min_s0: float = 0.10
    """Least s(0) of a policy that learned."""
    curve_levels: tuple[float, ...] = (0.0,)
    """Levels, of those above, that are evaluated at each point of a learning curve."""

    def validate(self) -> None:
        """Raise ValueError on levels outside [0, 1], unsorted or without 0, or too few episodes."""
        check_range(self.levels)
        if list(self.levels) != sorted(set(self.levels)) or 0.0 not in self.levels:
            raise BadInput(f"levels {self.levels!r} must increase and begin with 0")
        if self.episodes < 2:
            raise BadInput(f"episodes = {self.episodes!r} is not allowed; use 2 or more")
        if self.curve_episodes < 1:
            raise BadInput(
                f"curve_episodes = {self.curve_episodes!r} is not allowed; use 1 or more"
            )
        known = [level for level in self.levels if level in self.curve_levels]
        if list(self.curve_levels) != known or 0.0 not in known:
            raise BadInput(
                f"curve_levels {self.curve_levels!r} must be some of {self.levels!r}, and begin "
                "with 0"
            )


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the results of a cell; its hash names the folder of its runs."""

    algorithm: str
    environment: str
    technique: str
    shared: Config
    """The configuration that the arms of a study have in common."""
    task_options: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    study_seed: int = 0
    quick: bool = False
    alias_of: str | None = None
    """Run name of the arm that this one is by another name."""
    start: Fork | None = None
    """The snapshot that training begins with; None: new networks."""
    snapshots: tuple[float, ...] = ()
    """Shares of training, in (0, 1], after which the state is kept, for forks."""
    overrides: tuple[tuple[str, Value], ...] = ()
    """Changes of the configuration by this arm, see `jaxgen.study.arms.Arm`."""
    followed: tuple[float, ...] | None = None
    """Shares of training, in (0, 1), after which the agent is kept. Unless it is None, the return
    and the length of each episode of the learning curve are kept as well, and the agent of its best
    point."""
    agent: str | None = None
    """Digest of the agent whose policy training begins with, see `jaxgen.results.kept`; None: new
    networks."""

    @property
    def kept_shares(self) -> tuple[float, ...]:
        """Shares of training after which something is kept, in order."""
        return tuple(sorted({*self.snapshots, *(self.followed or ())}))

    @property
    def arm(self) -> str:
        """The arm's name: the technique, the overrides, and the agent that it began with."""
        return Arm(self.technique, self.overrides).name + begun_word(self.agent)

    @cached_property
    def config(self) -> Config:
        """The configuration that is trained: the shared one with the overrides, from a start."""
        config = replace(self.shared, dict(self.overrides))
        return config if self.start is None else self.start.begun(config)

    @property
    def own_steps(self) -> int:
        """Env steps that it trains itself, which a fork's parent has not."""
        config = self.config
        if self.start is None:
            return config.trained_steps
        return max(0, config.trained_steps - self.start.steps(config))

    @property
    def base(self) -> str:
        """The algorithm behind a preset's name."""
        return base_algorithm(self.algorithm)

    @property
    def experiment(self) -> str:
        """``<algorithm>_<environment>_<arm>``."""
        return f"{self.algorithm}_{self.environment}_{self.arm}"

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
        return {
            "schema": files.SCHEMA,
            "algorithm": self.algorithm,
            "base": self.base,
            "environment": self.environment,
            "technique": self.technique,
            "technique_values": techniques.to_dict(self.technique_values),
            "config": to_dict(self.shared),
            "task_options": dict(self.task_options),
            "evaluation": {
                "levels": list(self.evaluation.levels),
                "episodes": self.evaluation.episodes,
                "curve_episodes": self.evaluation.curve_episodes,
                "probe": self.evaluation.probe,
                "min_s0": self.evaluation.min_s0,
                **self._more_levels(),
            },
            "study_seed": self.study_seed,
            "quick": self.quick,
            "alias_of": self.alias_of,
            **self._additions(),
        }

    def _more_levels(self) -> dict[str, Any]:
        levels = self.evaluation.curve_levels
        return {"curve_levels": list(levels)} if levels != Evaluation.curve_levels else {}

    def _additions(self) -> dict[str, Any]:
        """Entries, where they are not the default: other names stay as they were."""
        return {
            **({"start": self.start.to_dict()} if self.start else {}),
            **({"snapshots": list(self.snapshots)} if self.snapshots else {}),
            **({"overrides": json_ready(dict(self.overrides))} if self.overrides else {}),
            **({"agent": self.agent} if self.agent else {}),
            **({} if self.followed is None else {"followed": list(self.followed)}),
        }

"""Fields that the configurations of all algorithms share, and checks of fields."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

from jaxgen.study.networks import ACTIVATIONS, NETWORKS
from jaxgen.system.errors import BadInput

INITIALISATIONS = ("orthogonal", "lecun", "uniform")
SCHEDULES = ("constant", "linear", "cosine")
MAX_FRAMES = 16
MAX_COUNT = 2**31 - 1
"""Counters in compiled programs are int32."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fields of every algorithm's configuration."""

    algorithm: ClassVar[str]
    shares: ClassVar[tuple[str, ...]] = ()
    """Fields that lie in [0, 1]."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Numbers with which nothing would be trained if they were 0."""
    counts_alike: ClassVar[bool] = True
    """Whether all iterations add equally many env steps, so that it is known which is where."""
    added: ClassVar[tuple[str, ...]] = (
        "learning_rate_schedule", "curve_steps", "stop_steps", "plateau_points",
    )  # fmt: skip
    """Fields that came later, beside those of the classes above: hashes of runs that have their
    defaults are those from before."""

    total_steps: int
    """Budget of environment steps; whole iterations that fit are trained."""
    learning_rate: float
    hidden: tuple[int, ...]
    """Width of the hidden layers of every network."""
    num_envs: int
    """N, parallel environments per variation."""
    num_steps: int
    """T, time steps per iteration."""
    network: str = "mlp"
    """``mlp``, an encoder of images before the hidden layers (``nature`` or ``impala``), or one of
    your own (`jaxgen.register_network`)."""
    num_frames: int = 1
    """Images that the network sees at once, the last ones of the episode."""
    num_variations: int = 3
    """V: every arm splits its batches, replay and steps into this many variations."""
    learning_rate_schedule: str = "constant"
    """How all learning rates fall over the budget: not at all, ``linear`` to 0, or as a half
    ``cosine``."""
    curve_steps: int = 0
    """Env steps between two points of the learning curve; 0: a twentieth of training."""
    stop_steps: int = 0
    """Env steps after which training stops early, with the schedules of the whole budget; 0: it
    does not."""
    plateau_points: int = 0
    """Points of the learning curve without a higher mean return than before, after which training
    stops early; 0: it does not. Such runs train one by one."""

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps that one iteration adds to the count: V x N x T."""
        return self.num_variations * self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Whole iterations within the budget."""
        return self.total_steps // self.steps_per_iteration

    @property
    def trained_steps(self) -> int:
        """The budget, or where training stops before."""
        return min(self.total_steps, self.stop_steps or self.total_steps)

    @property
    def trained_iterations(self) -> int:
        """Iterations after which training ends."""
        needed = -(-self.trained_steps // self.steps_per_iteration)
        return min(self.num_iterations, needed)

    @property
    def curve_iterations(self) -> int:
        """Iterations between two points of the learning curve."""
        if self.curve_steps:
            return max(1, self.curve_steps // self.steps_per_iteration)
        return max(1, self.num_iterations // 20)

    def iteration_at(self, share: float) -> int:
        """How many iterations a share of training is, at least one where it is not 0."""
        return max(1, round(share * self.num_iterations)) if share else 0

    def steps_at(self, share: float) -> int:
        """Env steps after which a share of training is done."""
        return self.iteration_at(share) * self.steps_per_iteration

    def refresh_iterations(self, refresh_steps: int | None) -> int | None:
        """Iterations between fresh training content; None: never."""
        if refresh_steps is None:
            return None
        return max(1, refresh_steps // self.steps_per_iteration)

    def validate(self) -> None:
        """Raise ValueError, naming field, value and what is allowed, before any compute."""
        require_positive(self, "num_envs", "num_steps", "num_variations")
        require(self, "total_steps", self.num_iterations >= 1,
                 f"at least one iteration of {self.steps_per_iteration} env steps")
        largest = MAX_COUNT - self.steps_per_iteration
        require(self, "total_steps", self.total_steps <= largest, f"at most {largest}")
        require(self, "hidden", len(self.hidden) > 0 and min(self.hidden) > 0,
                 "positive layer widths")
        require(self, "network", self.network in NETWORKS, f"one of {', '.join(NETWORKS)}")
        require(self, "learning_rate_schedule", self.learning_rate_schedule in SCHEDULES,
                 f"one of {', '.join(SCHEDULES)}")
        require(self, "curve_steps", self.curve_steps >= 0, "0 or more env steps")
        require(self, "stop_steps", self.stop_steps >= 0, "0 or more env steps")
        require(self, "plateau_points", self.plateau_points >= 0, "0 or more points")
        require(self, "num_frames", 1 <= self.num_frames <= MAX_FRAMES, f"1 to {MAX_FRAMES}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                require(self, field.name, math.isfinite(value) and value >= 0,
                         "a finite number, 0 or larger")
            elif isinstance(value, int):
                require(self, field.name, value <= MAX_COUNT, f"at most {MAX_COUNT}")
        for name in self.shares:
            require(self, name, getattr(self, name) <= 1, "a share in [0, 1]")
        for name in self.positive:
            require(self, name, getattr(self, name) > 0,
                     "a share in (0, 1]" if name in self.shares else "a positive number")


def require(config: Config, name: str, condition: bool, allowed: str) -> None:
    """Raise BadInput, which names field and value, where the condition does not hold."""
    if not condition:
        raise BadInput(
            f"{config.algorithm}: {name} = {getattr(config, name)!r} is not allowed; use {allowed}"
        )


def require_positive(config: Config, *names: str) -> None:
    """Require fields to be positive whole numbers."""
    for name in names:
        require(config, name, getattr(config, name) >= 1, "a positive whole number")


def require_activation(config: Config) -> None:
    """Require the field ``activation`` to name one."""
    known = getattr(config, "activation") in ACTIVATIONS  # noqa: B009
    require(config, "activation", known, f"one of {', '.join(ACTIVATIONS)}")

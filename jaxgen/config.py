"""Hyper-parameters: frozen dataclasses, presets per environment, validation, JSON.

Nothing here imports JAX, so that a plan can be listed at once. Float fields
become pytree leaves (they can vary between the lanes of one compiled program),
all other fields are static; `jaxgen.algorithms.base.register_config` does that.
A field's docstring is its help text and gives the reason for its value.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

NUM_VARIATIONS = 3
"""V: every arm splits its batches, replay and steps into this many variations."""


def per_variation(batch: int) -> int:
    """The batch of one variation: ``ceil(batch / V)``, so 64 becomes 3 x 22 = 66."""
    return -(-batch // NUM_VARIATIONS)


@dataclass(frozen=True)
class Config:
    """What every algorithm's configuration holds."""

    algorithm: ClassVar[str]

    total_steps: int
    """Budget of environment steps; whole iterations that fit are trained."""
    learning_rate: float
    hidden: tuple[int, ...]
    """Width of the hidden layers of every network."""
    num_envs: int
    """N, parallel environments per variation."""
    num_steps: int
    """T, time steps per iteration."""

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps that one iteration adds to the count: V x N x T."""
        return NUM_VARIATIONS * self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Whole iterations within the budget."""
        return self.total_steps // self.steps_per_iteration

    @property
    def curve_iterations(self) -> int:
        """Iterations between two points of the learning curve."""
        return max(1, self.num_iterations // 20)

    def validate(self) -> None:
        """Raise ValueError, naming field, value and what is allowed, before any compute."""
        _require(self, "total_steps", self.num_iterations >= 1,
                 f"at least one iteration of {self.steps_per_iteration} env steps")
        for name in ("num_envs", "num_steps"):
            _require(self, name, getattr(self, name) >= 1, "a positive whole number")
        _require(self, "hidden", len(self.hidden) > 0 and min(self.hidden) > 0,
                 "positive layer widths")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                _require(self, field.name, math.isfinite(value) and value >= 0,
                         "a finite number, 0 or larger")


@dataclass(frozen=True)
class PPOConfig(Config):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    algorithm: ClassVar[str] = "ppo"

    num_epochs: int
    """Passes over each rollout."""
    num_minibatches: int
    """Minibatches per pass; each holds equally many samples of every variation."""
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    adam_eps: float = 1e-5

    def validate(self) -> None:
        """See `Config.validate`; minibatches must divide the rollout of a variation."""
        super().validate()
        samples = self.num_envs * self.num_steps
        _require(self, "num_minibatches", samples % self.num_minibatches == 0,
                 f"a divisor of num_envs x num_steps = {samples}")
        _require(self, "num_epochs", self.num_epochs >= 1, "a positive whole number")


@dataclass(frozen=True)
class DQNConfig(Config):
    """Deep Q-learning with double Q targets (Mnih et al. 2015; van Hasselt et al. 2016)."""

    algorithm: ClassVar[str] = "dqn"

    batch_size: int
    """Transitions per update over all variations; each variation gets its ceiling share."""
    replay_ratio: float
    """Sampled transitions per environment step."""
    target_interval: int
    """Environment steps between copies into the target network."""
    buffer_size: int = 100_000
    """Transitions over all variations; each variation's ring holds its floor share."""
    learning_starts: int = 1_000
    """Environment steps before the first update."""
    gamma: float = 0.99
    max_grad_norm: float = 10.0
    adam_eps: float = 1e-8
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_fraction: float = 0.7
    """Share of the budget over which epsilon falls linearly."""
    one_hot: bool = False
    """Encode integer codes one-hot; False: codes scaled into [0, 1], as specified."""

    @property
    def batch_per_variation(self) -> int:
        """B, sampled transitions per variation and update."""
        return per_variation(self.batch_size)

    @property
    def ring_size(self) -> int:
        """Transitions that the ring of one variation holds."""
        return self.buffer_size // NUM_VARIATIONS

    @property
    def updates_per_iteration(self) -> int:
        """Gradient steps per iteration that keep the replay ratio."""
        batch = NUM_VARIATIONS * self.batch_per_variation
        return max(1, round(float(self.replay_ratio) * self.steps_per_iteration / batch))

    def validate(self) -> None:
        """See `Config.validate`; the replay ratio must be met by whole updates."""
        super().validate()
        batch = NUM_VARIATIONS * self.batch_per_variation
        actual = self.updates_per_iteration * batch / self.steps_per_iteration
        _require(self, "replay_ratio", abs(actual / self.replay_ratio - 1) < 0.01,
                 f"a ratio that whole updates meet: {self.updates_per_iteration} updates of {batch} "
                 f"in {self.steps_per_iteration} steps give {actual:.4g}; change num_envs x num_steps")
        _require(self, "buffer_size", self.ring_size >= self.num_envs * self.num_steps,
                 "a ring of at least num_envs x num_steps per variation")
        _require(self, "epsilon_fraction", 0 < self.epsilon_fraction <= 1, "a share in (0, 1]")
        _require(self, "target_interval", self.target_interval >= 1, "a positive whole number")


@dataclass(frozen=True)
class ESConfig(Config):
    """OpenAI evolution strategies (Salimans et al. 2017)."""

    algorithm: ClassVar[str] = "es"

    population: int
    """P members, in antithetic pairs."""
    sigma: float
    """Standard deviation of the perturbations."""
    episodes_per_member: int = 1
    """Episodes of each member on each variation, with seeds common to the generation."""
    adam_eps: float = 1e-8
    curve_interval: int = 5
    """Generations between two points of the learning curve."""

    @property
    def num_iterations(self) -> int:
        """The most generations that the budget can hold: every member fails at its first step."""
        episodes = NUM_VARIATIONS * self.num_envs
        return -(-self.total_steps // episodes)

    @property
    def curve_iterations(self) -> int:
        """Generations between two points of the learning curve."""
        return self.curve_interval

    def validate(self) -> None:
        """See `Config.validate`; the population is even and fills the environments."""
        super().validate()
        _require(self, "population", self.population >= 2 and self.population % 2 == 0,
                 "an even number, 2 or larger (antithetic pairs)")
        _require(self, "num_envs", self.num_envs == self.population * self.episodes_per_member,
                 f"population x episodes_per_member = {self.population * self.episodes_per_member}")
        _require(self, "sigma", self.sigma > 0, "a positive number")
        _require(self, "curve_interval", self.curve_interval >= 1, "a positive whole number")


def _require(config: Config, name: str, condition: bool, allowed: str) -> None:
    if not condition:
        raise ValueError(
            f"{config.algorithm}: {name} = {getattr(config, name)!r} is not allowed; use {allowed}"
        )


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as JSON-ready values."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
    }


def replace(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Override fields by name; ValueError names an unknown key or a value of the wrong type."""
    hints = get_type_hints(type(config))
    allowed = [field.name for field in dataclasses.fields(config)]
    converted = {}
    for key, value in overrides.items():
        if key not in allowed:
            raise ValueError(
                f"{config.algorithm}: unknown configuration key {key!r}; allowed: {', '.join(allowed)}"
            )
        converted[key] = _convert(config.algorithm, key, value, hints[key])
    return dataclasses.replace(config, **converted)


def _convert(algorithm: str, key: str, value: Any, kind: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)
    if kind is int and is_number and value == int(value):
        return int(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind == tuple[int, ...] and isinstance(value, list | tuple):
        return tuple(_convert(algorithm, key, item, int) for item in value)
    raise ValueError(f"{algorithm}: {key} = {value!r} is not a {getattr(kind, '__name__', kind)}")


PRESETS: dict[str, dict[str, Config]] = {
    "ppo": {
        "cartpole": PPOConfig(
            total_steps=50_000, learning_rate=3e-4, hidden=(64, 64),
            num_envs=4, num_steps=32, num_epochs=10, num_minibatches=4,
        ),
        "minigrid": PPOConfig(
            total_steps=1_000_000, learning_rate=2e-4, hidden=(128, 128),
            num_envs=16, num_steps=32, num_epochs=4, num_minibatches=4,
        ),
    },
    "dqn": {
        "cartpole": DQNConfig(
            total_steps=50_000, learning_rate=1e-4, hidden=(64, 64),
            num_envs=2, num_steps=11, batch_size=64, replay_ratio=32.0, target_interval=500,
        ),
        "minigrid": DQNConfig(
            total_steps=1_000_000, learning_rate=1e-4, hidden=(128, 128),
            num_envs=8, num_steps=4, batch_size=96, replay_ratio=16.0, target_interval=1_000,
        ),
    },
    "es": {
        "cartpole": ESConfig(
            total_steps=1_000_000, learning_rate=0.03, hidden=(64, 64),
            num_envs=50, num_steps=500, population=50, sigma=0.1,
        ),
        "minigrid": ESConfig(
            total_steps=5_000_000, learning_rate=0.02, hidden=(32, 32),
            num_envs=40, num_steps=100, population=40, sigma=0.1,
        ),
    },
}
"""Configuration of every (algorithm, environment): the specified values where it gives any."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "es-matched": ("es", {"total_steps": "as ppo"}),
    "dqn-onehot": ("dqn", {"one_hot": True}),
}
"""Named presets of an algorithm: (base, overrides)."""

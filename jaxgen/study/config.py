"""Hyper-parameters: frozen dataclasses, validation, JSON.

Presets are on the cards of the environments (`jaxgen.study.cards`).

Nothing here imports JAX, so that a plan can be listed at once. Float fields
become pytree leaves (they can vary between the lanes of one compiled program),
all other fields are static; `jaxgen.algorithms.base.register_config` does that.
A field's docstring is its help text and gives the reason for its value.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, get_type_hints

from jaxgen.study.networks import ACTIVATIONS, NETWORKS
from jaxgen.system.errors import BadInput
from jaxgen.system.values import as_python, number, whole

SHIFT_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The variation levels of evaluation; 0 is the training environment."""


POLICIES = ("gaussian", "beta")
ADVANTAGES = ("minibatch", "batch", "variation", "none")
INITIALISATIONS = ("orthogonal", "lecun", "uniform")
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
    added: ClassVar[tuple[str, ...]] = ()
    """Fields that came later: hashes of runs that have their defaults are those from before."""

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

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps that one iteration adds to the count: V x N x T."""
        return self.num_variations * self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Whole iterations within the budget."""
        return self.total_steps // self.steps_per_iteration

    @property
    def curve_iterations(self) -> int:
        """Iterations between two points of the learning curve."""
        return max(1, self.num_iterations // 20)

    def refresh_iterations(self, refresh_steps: int | None) -> int | None:
        """Iterations between fresh training content; None: never."""
        if refresh_steps is None:
            return None
        return max(1, refresh_steps // self.steps_per_iteration)

    def validate(self) -> None:
        """Raise ValueError, naming field, value and what is allowed, before any compute."""
        _require_positive(self, "num_envs", "num_steps", "num_variations")
        _require(self, "total_steps", self.num_iterations >= 1,
                 f"at least one iteration of {self.steps_per_iteration} env steps")
        largest = MAX_COUNT - self.steps_per_iteration
        _require(self, "total_steps", self.total_steps <= largest, f"at most {largest}")
        _require(self, "hidden", len(self.hidden) > 0 and min(self.hidden) > 0,
                 "positive layer widths")
        _require(self, "network", self.network in NETWORKS, f"one of {', '.join(NETWORKS)}")
        _require(self, "num_frames", 1 <= self.num_frames <= MAX_FRAMES, f"1 to {MAX_FRAMES}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                _require(self, field.name, math.isfinite(value) and value >= 0,
                         "a finite number, 0 or larger")
            elif isinstance(value, int):
                _require(self, field.name, value <= MAX_COUNT, f"at most {MAX_COUNT}")
        for name in self.shares:
            _require(self, name, getattr(self, name) <= 1, "a share in [0, 1]")
        for name in self.positive:
            _require(self, name, getattr(self, name) > 0,
                     "a share in (0, 1]" if name in self.shares else "a positive number")


@dataclass(frozen=True, kw_only=True)
class PPOConfig(Config):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    algorithm: ClassVar[str] = "ppo"
    shares: ClassVar[tuple[str, ...]] = ("gamma", "gae_lambda", "clip")
    positive: ClassVar[tuple[str, ...]] = ("max_grad_norm",)
    added: ClassVar[tuple[str, ...]] = (
        "activation", "policy", "normalize_observations", "advantages", "clip_values",
        "anneal_learning_rate",
    )

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
    scale_rewards: bool = False
    """Divide rewards by the running standard deviation of discounted returns, then clip to 10."""
    activation: str = "tanh"
    """Function between the layers of an ``mlp``; other networks have their own."""
    policy: str = "gaussian"
    """Distribution over the actions of a Box: ``gaussian``, whose deviation does not depend on the
    observation and whose actions are clipped for the environment alone, or ``beta``, within the
    bounds (Chou et al. 2017). Discrete actions have their own."""
    normalize_observations: bool = False
    """Subtract the running mean of observations, divide by their deviation, then clip to 10."""
    advantages: str = "minibatch"
    """Samples whose advantages get mean 0 and deviation 1: each ``minibatch``, the whole ``batch``
    of an iteration, that of each ``variation``, or ``none``."""
    clip_values: bool = False
    """Clip changes of the value as the policy's ratio is clipped (Huang et al. 2022, 9)."""
    anneal_learning_rate: bool = False
    """Let the learning rate fall linearly to 0 over the budget."""

    def validate(self) -> None:
        """See `Config.validate`; minibatches must divide the rollout of a variation."""
        super().validate()
        _require_positive(self, "num_epochs", "num_minibatches")
        _require_activation(self)
        _require(self, "policy", self.policy in POLICIES, " or ".join(POLICIES))
        _require(self, "advantages", self.advantages in ADVANTAGES,
                 f"one of {', '.join(ADVANTAGES)}")
        _require(self, "normalize_observations",
                 not self.normalize_observations or self.network == "mlp", "False but with mlp")
        samples = self.num_envs * self.num_steps
        _require(self, "num_minibatches", samples % self.num_minibatches == 0,
                 f"a divisor of num_envs x num_steps = {samples}")


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(Config):
    """Fields of algorithms that learn from a replay of transitions, a ring per variation."""

    shares: ClassVar[tuple[str, ...]] = ("gamma",)

    batch_size: int
    """Transitions per update over all variations; each variation gets its ceiling share."""
    replay_ratio: int
    """Sampled transitions per environment step."""
    buffer_size: int = 100_000
    """Transitions over all variations; each variation's ring holds its floor share."""
    learning_starts: int = 1_000
    """Environment steps before the first update; within the budget."""
    gamma: float = 0.99
    n_step: int = 1
    """Rewards that are added up before a target bootstraps; fewer at the end of a rollout."""

    @property
    def batch_per_variation(self) -> int:
        """B, sampled transitions per variation and update: ``ceil(batch / V)``, 64 is 3 x 22."""
        return -(-self.batch_size // self.num_variations)

    @property
    def ring_size(self) -> int:
        """Transitions that the ring of one variation holds."""
        return self.buffer_size // self.num_variations

    @property
    def updates_per_iteration(self) -> int:
        """Gradient steps per iteration that keep the replay ratio."""
        batch = self.num_variations * self.batch_per_variation
        return max(1, round(self.replay_ratio * self.steps_per_iteration / batch))

    @property
    def updates_per_step(self) -> float:
        """Updates for each environment step, whatever the number of environments."""
        return self.updates_per_iteration / self.steps_per_iteration

    def validate(self) -> None:
        """See `Config.validate`; the replay ratio must be met by whole updates."""
        super().validate()
        _require_positive(self, "batch_size", "replay_ratio")
        batch, updates = self.num_variations * self.batch_per_variation, self.updates_per_iteration
        actual = updates * batch / self.steps_per_iteration
        _require(self, "replay_ratio", abs(actual / self.replay_ratio - 1) < 0.01,
                 f"a ratio that whole updates meet: {updates} updates of {batch} in "
                 f"{self.steps_per_iteration} steps give {actual:.4g}; change num_envs, num_steps")
        _require(self, "buffer_size", self.ring_size >= self.num_envs * self.num_steps,
                 "a ring of at least num_envs x num_steps per variation")
        trained = self.num_iterations * self.steps_per_iteration
        _require(self, "learning_starts", 0 <= self.learning_starts <= trained,
                 f"0 to {trained}, the env steps of this budget, or raise total_steps")
        _require(self, "n_step", 1 <= self.n_step <= self.num_steps,
                 f"1 to num_steps = {self.num_steps}")
        _require(self, "n_step", self.n_step == 1 or self.network == "mlp",
                 "1 with an encoder of images, whose replay keeps single images")


@dataclass(frozen=True, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Deep Q-learning with double Q targets (Mnih et al. 2015; van Hasselt et al. 2016)."""

    algorithm: ClassVar[str] = "dqn"
    shares: ClassVar[tuple[str, ...]] = (
        "gamma", "epsilon_start", "epsilon_end", "epsilon_fraction",
    )
    positive: ClassVar[tuple[str, ...]] = ("max_grad_norm", "epsilon_fraction", "reward_scale")

    target_interval: int
    """Environment steps between copies into the target network."""
    max_grad_norm: float = 10.0
    adam_eps: float = 1e-8
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_fraction: float = 0.7
    """Share of the budget over which epsilon falls linearly."""
    activation: str = "relu"
    """Function between the layers of an ``mlp``; other networks have their own."""
    reward_scale: float = 1.0
    """Rewards are multiplied by it before targets are made; returns are reported unscaled."""
    encoding: str = "unit"
    """Network inputs: ``unit`` scales observations into [0, 1], as specified, where they have
    bounds; ``one_hot`` gives every integer code that occurs an input; ``raw`` passes numbers as
    they are."""
    bootstrap_truncations: bool = True
    """False makes the mistake of taking a time limit for the end of the task."""
    true_successors: bool = True
    """False makes the mistake of storing the next episode's first observation as the successor of
    a last one (but at the last step of a rollout)."""

    def validate(self) -> None:
        """See `OffPolicyConfig.validate`."""
        super().validate()
        _require_positive(self, "target_interval")
        _require(self, "encoding", self.encoding in ("raw", "unit", "one_hot"),
                 "raw, unit or one_hot")
        _require_activation(self)


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(OffPolicyConfig):
    """Fields of a policy and critics of a Box of actions that learn from a replay."""

    shares: ClassVar[tuple[str, ...]] = ("gamma", "tau")
    positive: ClassVar[tuple[str, ...]] = ("reward_scale",)

    tau: float = 0.005
    """Share of the way that targets move to what they follow with each update."""
    adam_eps: float = 1e-8
    reward_scale: float = 1.0
    """Rewards are multiplied by it before targets are made; returns are reported unscaled."""
    activation: str = "relu"
    """Function between the layers of an ``mlp``; other networks have their own."""
    initialisation: str = "uniform"
    """``uniform`` (as in PyTorch), ``orthogonal`` (gain sqrt 2) or ``lecun``, of the weights."""

    def validate(self) -> None:
        """See `OffPolicyConfig.validate`."""
        super().validate()
        _require_activation(self)
        _require(self, "network", self.network == "mlp", "mlp")
        _require(self, "initialisation", self.initialisation in INITIALISATIONS,
                 " or ".join(INITIALISATIONS))
        _require(self, "buffer_size", self.ring_size >= self.batch_per_variation,
                 f"a ring of at least a batch per variation, {self.batch_per_variation}")


@dataclass(frozen=True, kw_only=True)
class SACConfig(ActorCriticConfig):
    """Soft actor-critic with two critics and a learned temperature (Haarnoja et al. 2018b)."""

    algorithm: ClassVar[str] = "sac"
    positive: ClassVar[tuple[str, ...]] = (*ActorCriticConfig.positive, "initial_temperature")

    target_entropy: float = 1.0
    """Entropy that the temperature holds the policy to, in -nats for each dimension of an action
    in [-1, 1]: 1 is -dim A (Haarnoja et al. 2018b), .5 is -dim A / 2."""
    initial_temperature: float = 1.0


@dataclass(frozen=True, kw_only=True)
class TD3Config(ActorCriticConfig):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018); noise is in units of
    half an action's range. One critic without delay and target noise is DDPG."""

    algorithm: ClassVar[str] = "td3"

    num_critics: int = 2
    """2 or 1; a target is the lower value."""
    policy_delay: int = 2
    """Updates of the critics for each one of the policy and of all targets."""
    exploration_noise: float = 0.1
    """Standard deviation of what is added to the policy's action in training."""
    target_noise: float = 0.2
    """Standard deviation of what is added to the target policy's action."""
    target_noise_clip: float = 0.5
    """The most that is added to it."""

    def validate(self) -> None:
        """See `ActorCriticConfig.validate`."""
        super().validate()
        _require(self, "num_critics", self.num_critics in (1, 2), "1 or 2")
        _require_positive(self, "policy_delay")


@dataclass(frozen=True, kw_only=True)
class ESConfig(Config):
    """OpenAI evolution strategies (Salimans et al. 2017)."""

    algorithm: ClassVar[str] = "es"
    positive: ClassVar[tuple[str, ...]] = ("sigma",)
    added: ClassVar[tuple[str, ...]] = ("initialisation", "activation")

    population: int
    """P members, in antithetic pairs."""
    sigma: float
    """Standard deviation of the perturbations."""
    episodes_per_member: int = 1
    """Episodes of each member on each variation, with seeds common to the generation."""
    adam_eps: float = 1e-8
    head_scale: float = 1.0
    """Gain of the output layer's initialisation."""
    curve_interval: int = 5
    """Generations between two points of the learning curve."""
    initialisation: str = "orthogonal"
    """``orthogonal`` (gain sqrt 2), ``lecun`` or ``uniform``, of the weights."""
    activation: str = "tanh"
    """Function between the layers of an ``mlp``; other networks have their own."""

    @property
    def num_iterations(self) -> int:
        """The most generations that the budget can hold: every member fails at its first step."""
        episodes = self.num_variations * self.num_envs
        return -(-self.total_steps // episodes)

    @property
    def curve_iterations(self) -> int:
        """Generations between two points of the learning curve."""
        return self.curve_interval

    def refresh_iterations(self, refresh_steps: int | None) -> int | None:
        """Never: a generation starts only a few episodes, so that the first bank is not used up."""
        return None

    def validate(self) -> None:
        """See `Config.validate`; the population is even and fills the environments."""
        super().validate()
        _require(self, "population", self.population >= 2 and self.population % 2 == 0,
                 "an even number, 2 or larger (antithetic pairs)")
        _require(self, "num_envs", self.num_envs == self.population * self.episodes_per_member,
                 f"population x episodes_per_member = {self.population * self.episodes_per_member}")
        _require_positive(self, "curve_interval")
        _require_activation(self)
        allowed = INITIALISATIONS if self.network == "mlp" else INITIALISATIONS[:1]
        _require(self, "initialisation", self.initialisation in allowed, " or ".join(allowed))


def _require(config: Config, name: str, condition: bool, allowed: str) -> None:
    if not condition:
        raise BadInput(
            f"{config.algorithm}: {name} = {getattr(config, name)!r} is not allowed; use {allowed}"
        )


def _require_positive(config: Config, *names: str) -> None:
    for name in names:
        _require(config, name, getattr(config, name) >= 1, "a positive whole number")


def _require_activation(config: Config) -> None:
    known = getattr(config, "activation") in ACTIVATIONS  # noqa: B009
    _require(config, "activation", known, f"one of {', '.join(ACTIVATIONS)}")


def float_fields(cls: type[Config]) -> tuple[str, ...]:
    """Fields that may differ between the lanes of one compiled program; the others are static."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.type in (float, "float"))


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as JSON-ready values, without `Config.added` ones that are the default."""
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.name in config.added and values[field.name] == field.default:
            del values[field.name]
    return json_ready(values)


def json_ready(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of fields as JSON has them: a tuple is a list."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def replace(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Override fields by name; ValueError names an unknown key or a value of the wrong type."""
    return dataclasses.replace(config, **_converted(type(config), overrides))


def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """The configuration that `to_dict` made the values of.

    Fields that are missing have the defaults of the class. Errors as in `replace`; BadInput names
    missing ones without a default.
    """
    missing = [
        field.name for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise BadInput(f"{cls.algorithm}: a configuration lacks {', '.join(missing)}")
    return cls(**_converted(cls, values))


def check_keys(cls: type[Config], keys: Iterable[str]) -> None:
    """Raise BadInput, which says what is allowed, for a key that is no field."""
    allowed = [field.name for field in dataclasses.fields(cls)]
    for key in keys:
        if key not in allowed:
            close = get_close_matches(str(key), allowed, 1)
            meant = f", perhaps {close[0]}" if close else ""
            raise BadInput(
                f"{cls.algorithm}: unknown configuration key {key!r}{meant}; "
                f"allowed: {', '.join(allowed)}"
            )


def _converted(cls: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    check_keys(cls, values)
    return {key: _convert(cls.algorithm, key, value, hints[key]) for key, value in values.items()}


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def _convert(algorithm: str, key: str, given: Any, kind: Any) -> Any:
    value = as_python(given)
    if kind in (int, float):
        value = whole(value) if kind is int else number(value)
    if kind in _KINDS and isinstance(value, kind):
        return value
    if kind == tuple[int, ...] and isinstance(value, list | tuple):
        return tuple(_convert(algorithm, key, item, int) for item in value)
    raise BadInput(
        f"{algorithm}: {key} = {given!r} is not {_KINDS.get(kind, 'a list of whole numbers')}"
    )

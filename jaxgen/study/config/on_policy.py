"""Configurations of the algorithms that learn from the newest episodes alone."""

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxgen.study.config.base import (
    INITIALISATIONS,
    Config,
    require,
    require_activation,
    require_positive,
)

POLICIES = ("gaussian", "beta")
ADVANTAGES = ("minibatch", "batch", "variation", "none")
CREDITS = ("episode", "step")
BASELINES = ("group", "others")
KLS = ("exact", "k3")


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
        require_positive(self, "num_epochs", "num_minibatches")
        require_activation(self)
        require(self, "policy", self.policy in POLICIES, " or ".join(POLICIES))
        require(self, "advantages", self.advantages in ADVANTAGES,
                 f"one of {', '.join(ADVANTAGES)}")
        _require_mlp_where_normalized(self, self.normalize_observations)
        require(self, "learning_rate_schedule",
                 self.learning_rate_schedule == "constant" or not self.anneal_learning_rate,
                 "constant, or anneal_learning_rate = false")
        samples = self.num_envs * self.num_steps
        require(self, "num_minibatches", samples % self.num_minibatches == 0,
                 f"a divisor of num_envs x num_steps = {samples}")


@dataclass(frozen=True, kw_only=True)
class EpisodicConfig(Config):
    """Fields of an algorithm each of whose iterations plays one episode in every environment, whose
    steps alone count in the budget."""

    counts_alike: ClassVar[bool] = False

    curve_interval: int = 5
    """Iterations between two points of the learning curve."""

    @property
    def num_iterations(self) -> int:
        """The most iterations that the budget can hold: all episodes end at their first step."""
        episodes = self.num_variations * self.num_envs
        return -(-self.total_steps // episodes)

    @property
    def trained_iterations(self) -> int:
        """The most that can be needed."""
        return -(-self.trained_steps // (self.num_variations * self.num_envs))

    def steps_at(self, share: float) -> int:
        """Env steps from which on a share of training is done: at the end of the iteration that
        reaches them."""
        return math.ceil(share * self.total_steps)

    @property
    def curve_iterations(self) -> int:
        """Iterations between two points of the learning curve."""
        return self.curve_interval

    def validate(self) -> None:
        """See `Config.validate`."""
        require(self, "curve_steps", not self.curve_steps, "0, and curve_interval iterations")
        require_positive(self, "total_steps")
        super().validate()
        require_positive(self, "curve_interval")


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(EpisodicConfig):
    """Group relative policy optimisation (Shao et al. 2024): the mean of a group of episodes in
    place of a critic. ``num_steps`` is the longest episode; longer ones are cut there."""

    algorithm: ClassVar[str] = "grpo"
    shares: ClassVar[tuple[str, ...]] = ("gamma", "clip")
    positive: ClassVar[tuple[str, ...]] = ("max_grad_norm",)

    group_size: int
    """G, episodes of a group: even, and a divisor of ``num_envs``."""
    num_epochs: int
    """Passes over the steps of an iteration."""
    minibatch_size: int
    """Steps of each variation in an update, at most; updates of a pass have equally many."""
    credit: str = "step"
    """The worth of an action: the return of its ``episode``, or what was left of it at its
    ``step``, both less those of the group."""
    baseline: str = "group"
    """The mean of the whole ``group``, or of the ``others`` in it (Kool et al. 2019)."""
    scale_by_deviation: bool = False
    """Divide by the standard deviation of what the mean is of."""
    same_start: bool = False
    """Begin all episodes of a group in the same state; False: each in one of its own."""
    gamma: float = 1.0
    """Discount of the rewards that an action is credited with."""
    clip: float = 0.2
    kl_weight: float = 0.01
    """Weight of the divergence from the reference policy."""
    kl: str = "exact"
    """The divergence in closed form, or estimated from the actions taken: ``k3`` (Schulman 2020),
    as Shao et al. have it."""
    reference_interval: int = 10_000
    """Env steps after which the reference becomes the policy as it is."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    adam_eps: float = 1e-5
    activation: str = "tanh"
    """Function between the layers of an ``mlp``; other networks have their own."""
    policy: str = "gaussian"
    """As of PPO."""
    normalize_observations: bool = False
    """As of PPO."""

    def validate(self) -> None:
        """See `Config.validate`; groups are of two or more and fill the environments."""
        super().validate()
        require_positive(self, "num_epochs", "minibatch_size", "reference_interval")
        require_activation(self)
        # Even, so that a probe can halve it.
        fits = self.group_size >= 2 and self.num_envs % self.group_size == self.group_size % 2 == 0
        require(self, "group_size", fits, f"an even divisor of num_envs = {self.num_envs}")
        for name, allowed in (("credit", CREDITS), ("baseline", BASELINES), ("kl", KLS),
                              ("policy", POLICIES)):
            require(self, name, getattr(self, name) in allowed, " or ".join(allowed))
        _require_mlp_where_normalized(self, self.normalize_observations)


def _require_mlp_where_normalized(config: Config, normalized: bool) -> None:
    require(config, "normalize_observations", not normalized or config.network == "mlp",
             "False but with mlp")


@dataclass(frozen=True, kw_only=True)
class ESConfig(EpisodicConfig):
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
    initialisation: str = "orthogonal"
    """``orthogonal`` (gain sqrt 2), ``lecun`` or ``uniform``, of the weights."""
    activation: str = "tanh"
    """Function between the layers of an ``mlp``; other networks have their own."""

    def refresh_iterations(self, refresh_steps: int | None) -> int | None:
        """Never: a generation starts only a few episodes, so that the first bank is not used up."""
        return None

    def validate(self) -> None:
        """See `Config.validate`; the population is even and fills the environments."""
        super().validate()
        require(self, "population", self.population >= 2 and self.population % 2 == 0,
                 "an even number, 2 or larger (antithetic pairs)")
        require(self, "num_envs", self.num_envs == self.population * self.episodes_per_member,
                 f"population x episodes_per_member = {self.population * self.episodes_per_member}")
        require_activation(self)
        allowed = INITIALISATIONS if self.network == "mlp" else INITIALISATIONS[:1]
        require(self, "initialisation", self.initialisation in allowed, " or ".join(allowed))

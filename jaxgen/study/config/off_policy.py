"""Configurations of the algorithms that learn from a replay."""

from dataclasses import dataclass
from typing import ClassVar

from jaxgen.study.config.base import (
    INITIALISATIONS,
    Config,
    require,
    require_activation,
    require_positive,
)

CRITIC_NORMS = ("none", "batch")


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(Config):
    """Fields of algorithms that learn from a replay of transitions, a ring per variation."""

    shares: ClassVar[tuple[str, ...]] = ("gamma",)
    added: ClassVar[tuple[str, ...]] = ("replay_begins", "replay_warmup")

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
    replay_begins: int = 0
    """Env steps before which nothing is in the replay, as in a fork that begins without it."""
    replay_warmup: int = 0
    """Env steps from there on before the next update."""

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
    def first_update(self) -> int:
        """Environment steps after which updates begin."""
        return max(self.learning_starts, self.replay_begins + self.replay_warmup)

    @property
    def updates_per_step(self) -> float:
        """Updates for each environment step, whatever the number of environments."""
        return self.updates_per_iteration / self.steps_per_iteration

    def validate(self) -> None:
        """See `Config.validate`; the replay ratio must be met by whole updates."""
        super().validate()
        require_positive(self, "batch_size", "replay_ratio")
        batch, updates = self.num_variations * self.batch_per_variation, self.updates_per_iteration
        actual = updates * batch / self.steps_per_iteration
        require(self, "replay_ratio", abs(actual / self.replay_ratio - 1) < 0.01,
                 f"a ratio that whole updates meet: {updates} updates of {batch} in "
                 f"{self.steps_per_iteration} steps give {actual:.4g}; change num_envs, num_steps")
        require(self, "buffer_size", self.ring_size >= self.num_envs * self.num_steps,
                 "a ring of at least num_envs x num_steps per variation")
        trained = self.num_iterations * self.steps_per_iteration
        require(self, "learning_starts", 0 <= self.learning_starts <= trained,
                 f"0 to {trained}, the env steps of this budget, or raise total_steps")
        require(self, "n_step", 1 <= self.n_step <= self.num_steps,
                 f"1 to num_steps = {self.num_steps}")
        require(self, "n_step", self.n_step == 1 or self.network == "mlp",
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
        require_positive(self, "target_interval")
        require(self, "encoding", self.encoding in ("raw", "unit", "one_hot"),
                 "raw, unit or one_hot")
        require_activation(self)


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(OffPolicyConfig):
    """Fields of a policy and critics of a Box of actions that learn from a replay."""

    shares: ClassVar[tuple[str, ...]] = ("gamma", "tau")
    positive: ClassVar[tuple[str, ...]] = ("reward_scale",)

    tau: float = 0.005
    """Share of the way that targets move to what they follow with each update."""
    policy_delay: int = 1
    """Updates of the critics for each one of the policy."""
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
        require_activation(self)
        require(self, "network", self.network == "mlp", "mlp")
        require(self, "initialisation", self.initialisation in INITIALISATIONS,
                 " or ".join(INITIALISATIONS))
        require_positive(self, "policy_delay")
        require(self, "buffer_size", self.ring_size >= self.batch_per_variation,
                 f"a ring of at least a batch per variation, {self.batch_per_variation}")


@dataclass(frozen=True, kw_only=True)
class SACConfig(ActorCriticConfig):
    """Soft actor-critic with two critics and a learned temperature (Haarnoja et al. 2018b)."""

    algorithm: ClassVar[str] = "sac"
    positive: ClassVar[tuple[str, ...]] = (*ActorCriticConfig.positive, "initial_temperature")
    added: ClassVar[tuple[str, ...]] = ("policy_delay", "critic_norm")

    target_entropy: float = 1.0
    """Entropy that the temperature holds the policy to, in -nats for each dimension of an action
    in [-1, 1]: 1 is -dim A (Haarnoja et al. 2018b), .5 is -dim A / 2."""
    initial_temperature: float = 1.0
    critic_norm: str = "none"
    """``batch``: layers of the critics normalise by the statistics of the batch, which holds the
    following steps as well, and there is no target network (CrossQ, Bhatt et al. 2024)."""

    def validate(self) -> None:
        """See `ActorCriticConfig.validate`."""
        super().validate()
        require(self, "critic_norm", self.critic_norm in CRITIC_NORMS, " or ".join(CRITIC_NORMS))


@dataclass(frozen=True, kw_only=True)
class TD3Config(ActorCriticConfig):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018); noise is in units of
    half an action's range. One critic without delay and target noise is DDPG."""

    algorithm: ClassVar[str] = "td3"

    num_critics: int = 2
    """2 or 1; a target is the lower value."""
    policy_delay: int = 2
    """Updates of the critics for each one of the policy, with which all targets move as well."""
    exploration_noise: float = 0.1
    """Standard deviation of what is added to the policy's action in training."""
    target_noise: float = 0.2
    """Standard deviation of what is added to the target policy's action."""
    target_noise_clip: float = 0.5
    """The most that is added to it."""

    def validate(self) -> None:
        """See `ActorCriticConfig.validate`."""
        super().validate()
        require(self, "num_critics", self.num_critics in (1, 2), "1 or 2")

"""Cards of gymnax's environments, made when their names are first asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from envs_jax.cards import cartpole
from jaxgen.study.cards.base import EnvironmentCard, Limits, Setup, TaskCard, Title
from jaxgen.study.config import DQNConfig, ESConfig, GRPOConfig, PPOConfig

PREFIX = "gymnax-"
"""Begins the registry names: ``gymnax-Acrobot-v1``."""
WORD = "gymnax:"
"""Begins the names that a person writes: ``gymnax:Acrobot-v1``."""
BUDGET = 200_000
"""Env steps of PPO and DQN."""


def card(name: str) -> EnvironmentCard:
    """The card of ``gymnax-<id>``, whatever the id is: the task says whether there is one.

    They start from their settings on CartPole, DQN without what suits that alone.
    """
    id, setups = name.removeprefix(PREFIX), cartpole.CARD.setups
    configs = [setups[algorithm].config for algorithm in ("ppo", "dqn", "grpo", "es")]
    ppo, dqn, grpo, es = configs
    assert isinstance(ppo, PPOConfig) and isinstance(dqn, DQNConfig)
    assert isinstance(grpo, GRPOConfig) and isinstance(es, ESConfig)
    return EnvironmentCard(
        name=name,
        title=Title(id, id),
        task=TaskCard(
            make="envs_jax.gymnax_envs:GymnaxTask", fixed={"id": id},
            options={"vary": {}, "reference": None},
            describe="envs_jax.varying:describe_level",
        ),
        limits=Limits(knows_ceiling=False),
        setups={
            "ppo": Setup(replace(ppo, total_steps=BUDGET, gamma=0.99, scale_rewards=True)),
            "dqn": Setup(replace(
                dqn, total_steps=BUDGET, learning_rate=5e-4, activation="relu", reward_scale=1.0,
            )),
            "grpo": Setup(replace(grpo, total_steps=BUDGET)),
            "es": Setup(replace(es, total_steps=2_000_000)),
        },
    )  # fmt: skip


def varied(
    name: str, vary: Mapping[str, Sequence[float]], reference: float | None = None
) -> EnvironmentCard:
    """The card of an environment some of whose parameters vary.

    Args:
      name: registry name, or as a person writes it.
      vary: name of a parameter -> its values at levels 0 and 1.
      reference: the return that counts as 1; None: that of the environment, where one is known.
    """
    made = card(PREFIX + name.removeprefix(WORD).removeprefix(PREFIX))
    ends = {key: [float(low), float(high)] for key, (low, high) in vary.items()}
    options = {"vary": ends, "reference": reference}
    return replace(made, task=replace(made.task, options=options))

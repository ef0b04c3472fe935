"""The card of the grid.

The number of layouts decides what generalisation means: ``bank_size`` fresh ones for each
variation and seed, replaced every ``refresh_steps`` env steps.
"""

from jaxgen.study.cards.base import EnvironmentCard, Listing, Observed, Setup, TaskCard, Title
from jaxgen.study.config import DQNConfig, ESConfig, GRPOConfig, PPOConfig

CARD = EnvironmentCard(
    name="minigrid",
    title=Title("Grid", "the grid"),
    listing=Listing.DEFAULT,
    task=TaskCard(
        make="envs_jax.gridworld:GridTask",
        options={"bank_size": 4096, "refresh_steps": 100_000, "see_through_walls": True},
        quick={"bank_size": 128},
        observed=Observed.CODES,
        describe="envs_jax.gridworld:describe_level",
    ),
    setups={
        "ppo": Setup(
            PPOConfig(
                total_steps=1_000_000, learning_rate=2e-4, hidden=(128, 128),
                num_envs=16, num_steps=32, num_epochs=4, num_minibatches=4,
            ),
            seconds=14.0,
        ),
        "dqn": Setup(
            DQNConfig(
                total_steps=1_000_000, learning_rate=1e-4, hidden=(128, 128),
                # 3 x 64: small matrix products run at a third of the speed, and at a fixed replay
                # ratio twice the batch is half the optimiser steps.
                num_envs=16, num_steps=4, batch_size=192, replay_ratio=16, target_interval=1_000,
            ),
            seconds=18.0,
        ),
        "grpo": Setup(
            GRPOConfig(
                total_steps=1_000_000, learning_rate=3e-4, hidden=(128, 128), num_envs=32,
                num_steps=100, group_size=8, num_epochs=4, minibatch_size=256, gamma=0.99,
            ),
            seconds=20.0,
        ),
        "es": Setup(
            ESConfig(
                # 5 M population steps end at .69, 8 M at .76 (10 seeds): the budget that reaches
                # .70. 40 members estimate few directions: 16 units learn faster than 128 x 128 (.57
                # at 5 M); with ReLU two seeds in ten never leave the start.
                total_steps=8_000_000, learning_rate=0.02, hidden=(16,), num_envs=80, num_steps=100,
                population=40, episodes_per_member=2, sigma=0.1, head_scale=0.01, curve_interval=25,
            ),
            seconds=1.0,
        ),
    },
)

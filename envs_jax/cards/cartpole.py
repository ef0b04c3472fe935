"""The card of CartPole."""

from jaxgen.study.cards.base import EnvironmentCard, Listing, Setup, TaskCard, Title
from jaxgen.study.config import DQNConfig, ESConfig, GRPOConfig, PPOConfig

CARD = EnvironmentCard(
    name="cartpole",
    aliases=("CartPole-v1",),
    title=Title("CartPole", "CartPole"),
    listing=Listing.DEFAULT,
    task=TaskCard(
        make="envs_jax.cartpole:CartPoleTask", describe="envs_jax.cartpole:describe_level"
    ),
    setups={
        "ppo": Setup(
            PPOConfig(
                total_steps=50_000, learning_rate=3e-4, hidden=(64, 64),
                # 50 000 steps need many small updates: short rollouts, minibatches of 3 x 16.
                num_envs=4, num_steps=32, num_epochs=10, num_minibatches=8, gamma=0.98,
            ),
            seconds=20.0,
        ),
        "dqn": Setup(
            DQNConfig(
                total_steps=50_000, learning_rate=1e-4, hidden=(64, 64),
                num_envs=2, num_steps=11, batch_size=64, replay_ratio=32, target_interval=500,
                # Velocities have no bounds to scale by. Returns of 500 make values of 100 at gamma
                # .99: scaled by 1 - gamma they are of order 1, which a learning rate of 1e-4 can
                # follow.
                encoding="raw", activation="tanh", reward_scale=0.01, adam_eps=1e-4,
            ),
            seconds=25.0,
        ),
        "grpo": Setup(
            GRPOConfig(
                total_steps=500_000, learning_rate=1e-3, hidden=(64, 64), num_envs=16,
                num_steps=500, group_size=16, num_epochs=4, minibatch_size=256,
            ),
            seconds=20.0,
        ),
        "es": Setup(
            ESConfig(
                total_steps=1_000_000, learning_rate=0.03, hidden=(64, 64),
                num_envs=50, num_steps=500, population=50, sigma=0.1,
            ),
            seconds=0.8,
        ),
    },
)

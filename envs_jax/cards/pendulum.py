"""The card of Pendulum."""

from jaxgen.study.cards.base import EnvironmentCard, Setup, TaskCard, Title
from jaxgen.study.config import ESConfig, GRPOConfig, PPOConfig, SACConfig, TD3Config

CARD = EnvironmentCard(
    name="pendulum",
    aliases=("Pendulum-v1",),
    title=Title("Pendulum", "Pendulum"),
    task=TaskCard(
        make="envs_jax.pendulum:PendulumTask", describe="envs_jax.pendulum:describe_level"
    ),
    setups={
        "sac": Setup(
            SACConfig(
                total_steps=20_000, learning_rate=1e-3, hidden=(64, 64), num_envs=1, num_steps=1,
                batch_size=256, replay_ratio=256, buffer_size=20_000, learning_starts=500,
            ),
            seconds=1000.0,
        ),
        "td3": Setup(
            TD3Config(
                total_steps=20_000, learning_rate=1e-3, hidden=(64, 64), num_envs=1, num_steps=1,
                batch_size=256, replay_ratio=256, buffer_size=20_000, learning_starts=500,
            ),
            seconds=800.0,
        ),
        "ppo": Setup(
            PPOConfig(
                total_steps=100_000, learning_rate=1e-3, hidden=(64, 64), num_envs=4, num_steps=128,
                num_epochs=10, num_minibatches=16, gamma=0.9, entropy=0.0,
            ),
            seconds=20.0,
        ),
        "grpo": Setup(
            GRPOConfig(
                total_steps=1_000_000, learning_rate=1e-3, hidden=(64, 64), num_envs=16,
                num_steps=200, group_size=16, num_epochs=4, minibatch_size=256, gamma=0.9,
            ),
            seconds=20.0,
        ),
        "es": Setup(
            ESConfig(
                total_steps=6_000_000, learning_rate=0.03, hidden=(32, 32),
                num_envs=50, num_steps=200, population=50, sigma=0.1,
            ),
            seconds=3.0,
        ),
    },
)

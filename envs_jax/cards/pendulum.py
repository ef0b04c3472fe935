"""The card of Pendulum."""

from jaxgen.study.cards.base import EnvironmentCard, Setup, TaskCard, Title
from jaxgen.study.config import ESConfig

CARD = EnvironmentCard(
    name="pendulum",
    title=Title("Pendulum", "Pendulum"),
    task=TaskCard(
        make="envs_jax.pendulum:PendulumTask", describe="envs_jax.pendulum:describe_level"
    ),
    setups={
        "es": Setup(
            ESConfig(
                total_steps=6_000_000, learning_rate=0.03, hidden=(32, 32),
                num_envs=50, num_steps=200, population=50, sigma=0.1,
            ),
            seconds=3.0,
        ),
    },
)

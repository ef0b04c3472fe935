"""The card of MountainCarContinuous."""

from jaxgen.study.cards.base import EnvironmentCard, Limits, Listing, Setup, TaskCard, Title
from jaxgen.study.config import ESConfig, GRPOConfig, PPOConfig, SACConfig, TD3Config

_LEARNED = {
    "total_steps": 50_000, "hidden": (64, 64), "num_envs": 1, "num_steps": 1, "batch_size": 256,
    "replay_ratio": 256, "buffer_size": 50_000, "learning_starts": 1_000,
}  # fmt: skip

CARD = EnvironmentCard(
    name="mountain_car_continuous",
    aliases=("MountainCarContinuous-v0",),
    title=Title("Mountain car", "the continuous mountain car"),
    listing=Listing.BY_NAME,
    task=TaskCard(
        make="envs_jax.mountain_car:MountainCarContinuousTask",
        describe="envs_jax.mountain_car:describe_level",
    ),
    # 100 is a bound: nobody knows how near the best return comes to it.
    limits=Limits(knows_ceiling=False),
    setups={
        # The motor costs and the goal is far: what does not happen upon it learns to stand still.
        "sac": Setup(SACConfig(**_LEARNED, learning_rate=3e-4), seconds=800.0),
        "td3": Setup(
            TD3Config(**_LEARNED, learning_rate=1e-3, exploration_noise=0.5), seconds=800.0
        ),
        "ppo": Setup(
            PPOConfig(
                total_steps=500_000, learning_rate=3e-4, hidden=(64, 64), num_envs=16,
                num_steps=256, num_epochs=10, num_minibatches=32, gamma=0.999, entropy=0.01,
                scale_rewards=True, normalize_observations=True,
            ),
            seconds=20.0,
        ),
        "grpo": Setup(
            GRPOConfig(
                total_steps=500_000, learning_rate=3e-4, hidden=(64, 64), num_envs=16,
                num_steps=999, group_size=16, num_epochs=10, minibatch_size=256, gamma=0.999,
                entropy=0.01, normalize_observations=True,
            ),
            seconds=20.0,
        ),
        "es": Setup(
            ESConfig(
                total_steps=20_000_000, learning_rate=0.03, hidden=(32, 32), num_envs=50,
                num_steps=999, population=50, sigma=0.1,
            ),
            seconds=3.0,
        ),
    },
)

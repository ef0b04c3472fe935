"""The cards of procgen's games: Starpilot, which is studied, and the others, configured alike."""

from dataclasses import replace

from jaxgen.study.cards.base import (
    EnvironmentCard,
    Limits,
    Listing,
    Observed,
    Setup,
    TaskCard,
    Title,
)
from jaxgen.study.config import DQNConfig, ESConfig, PPOConfig

OTHERS = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder",
)  # fmt: skip
"""Games that are configured as Starpilot is."""


def _missing() -> str | None:
    from envs_jax.procgen_games import missing

    return missing()


STARPILOT = EnvironmentCard(
    name="starpilot",
    title=Title("Starpilot", "Starpilot"),
    listing=Listing.ON_REQUEST,
    task=TaskCard(
        make="envs_jax.starpilot:ProcgenTask",
        fixed={"game": "starpilot"},
        options={"num_levels": 200},
        observed=Observed.IMAGES,
        describe="envs_jax.starpilot:describe_level",
        missing=_missing,
    ),
    # Published agents of a million steps are only at s(0) = .02; the games take hours of a CPU.
    limits=Limits(
        episodes=256, curve_episodes=32, quick_episodes=2, quick_seeds=1, min_s0=0.02,
        can_probe=False,
    ),
    setups={
        # Seconds follow from measured parts (an image's way through the network and its gradient),
        # but for ppo-published, whose training was timed.
        "ppo": Setup(
            PPOConfig(
                total_steps=3_000_000, learning_rate=5e-5, hidden=(256, 256), network="nature",
                num_frames=4, num_envs=21, num_steps=128, num_epochs=3, num_minibatches=8,
                gamma=0.999,
            ),
            seconds=1300.0,
            quick={"num_envs": 2, "num_steps": 16, "num_epochs": 1, "num_minibatches": 2},
            variant_seconds={"ppo-published": 7000.0},
        ),
        "dqn": Setup(
            DQNConfig(
                total_steps=3_000_000, learning_rate=2.5e-5, hidden=(256, 256), network="nature",
                # An update of 32 every 4 steps, as Mnih et al. 2015 have it.
                num_frames=4, num_envs=11, num_steps=3, batch_size=32, replay_ratio=8,
                target_interval=10_000, learning_starts=20_000,
            ),
            seconds=5000.0,
            quick={"buffer_size": 3_000},
        ),
        "es": Setup(
            ESConfig(
                # A generation takes up to 60 000 steps: few are left to learn from.
                total_steps=3_000_000, learning_rate=0.02, hidden=(256, 256), network="nature",
                num_frames=4, num_envs=20, num_steps=1000, population=20, sigma=0.02,
            ),
            seconds=300.0,
            quick={"population": 4, "num_envs": 4, "num_steps": 100},
        ),
    },
)


def _like_starpilot(game: str) -> EnvironmentCard:
    """A game by its name, with the setups of Starpilot."""
    task = replace(STARPILOT.task, fixed={"game": game})
    return replace(STARPILOT, name=game, title=Title(game, game), task=task,
                   listing=Listing.BY_NAME)  # fmt: skip


CARDS = (STARPILOT, *(_like_starpilot(game) for game in OTHERS))

"""Cards of MuJoCo's robots in the version 5 of Gymnasium: HalfCheetah.

Nobody knows the best return of a shifted robot. So the scores of all levels have one fixed upper
reference: the return that published agents reach at level 0. 1 is no bound, and an s(v) below 1
under shift may be the best that is possible there; returns compare arms without it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxgen.study.cards.base import EnvironmentCard, Limits, Listing, Setup, TaskCard, Title
from jaxgen.study.config import ESConfig, PPOConfig, SACConfig

VARY = ("all", "mass", "friction", "gear")
"""Factors that the level shifts: all of them, or one alone."""
OPTIONS = {
    "vary": "all", "frame_skip": 5, "forward_reward_weight": 1.0, "ctrl_cost_weight": 0.1,
    "reset_noise_scale": 0.1, "eval_reset_noise_scale": None,
    "exclude_current_positions_from_observation": True,
}  # fmt: skip
"""Options of the task with Gymnasium's defaults; ``eval_reset_noise_scale`` is that of evaluation
episodes, None: the one of training."""


def _missing() -> str | None:
    from envs_jax.mujoco_engine import missing

    return missing()


HALF_CHEETAH = EnvironmentCard(
    name="halfcheetah",
    aliases=("HalfCheetah-v5",),
    title=Title("HalfCheetah", "HalfCheetah"),
    listing=Listing.BY_NAME,
    task=TaskCard(
        make="envs_jax.mujoco_envs:MujocoTask",
        fixed={"name": "halfcheetah"},
        options=OPTIONS,
        describe="envs_jax.mujoco_envs:describe_level",
        missing=_missing,
    ),
    # An episode takes 1 000 steps, 11 to 24 us each; nothing on the host is probed.
    limits=Limits(
        episodes=100, curve_episodes=10, quick_episodes=2, knows_ceiling=False, can_probe=False
    ),
    setups={
        "sac": Setup(
            SACConfig(
                # The usual settings (Haarnoja et al. 2018b), an update for each step.
                total_steps=100_000, learning_rate=3e-4, hidden=(256, 256), num_envs=1, num_steps=1,
                batch_size=256, replay_ratio=256, buffer_size=300_000, learning_starts=5_000,
            ),
            seconds=7500.0,
            quick={"hidden": [32, 32], "batch_size": 48, "replay_ratio": 48},
        ),
        "ppo": Setup(
            PPOConfig(
                total_steps=1_000_000, learning_rate=3e-4, hidden=(64, 64), num_envs=8,
                num_steps=128, num_epochs=10, num_minibatches=32, entropy=0.0, scale_rewards=True,
                normalize_observations=True, anneal_learning_rate=True,
            ),
            seconds=40.0,
            quick={"num_envs": 2, "num_steps": 64, "num_minibatches": 4},
        ),
        "es": Setup(
            ESConfig(
                total_steps=10_000_000, learning_rate=0.02, hidden=(64, 64), num_envs=32,
                num_steps=1000, population=32, sigma=0.05,
            ),
            seconds=25.0,
            quick={"population": 4, "num_envs": 4, "num_steps": 100},
        ),
    },
)

CARDS = (HALF_CHEETAH,)
NAMES = tuple(card.name for card in CARDS)


def changed(card: EnvironmentCard, options: Mapping[str, Any]) -> EnvironmentCard:
    """The card of a robot whose task has these options, and otherwise the usual ones."""
    return replace(card, task=replace(card.task, options={**OPTIONS, **options}))

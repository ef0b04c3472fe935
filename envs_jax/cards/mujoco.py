"""Cards of MuJoCo's robots in the version 5 of Gymnasium.

Nobody knows the best return of a shifted robot. So the scores of all levels have one fixed upper
reference: the return that published agents reach at level 0. 1 is no bound, and an s(v) below 1
under shift may be the best that is possible there; returns compare arms without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxgen.study.cards.base import EnvironmentCard, Limits, Listing, Setup, TaskCard, Title
from jaxgen.study.config import ESConfig, GRPOConfig, PPOConfig, SACConfig, TD3Config

VARY = ("all", "mass", "friction", "gear")
"""Factors that the level shifts: all of them, or one alone."""
_NOISE = {"eval_reset_noise_scale": None}
_HIDES = {"exclude_current_positions_from_observation": True}
_RUNS = {"forward_reward_weight": 1.0, **_NOISE, **_HIDES}
_STANDS = {"healthy_reward": 1.0, "terminate_when_unhealthy": True}
_FEELS = {"include_cfrc_ext_in_observation": True}
_PERSON = {
    "frame_skip": 5, "ctrl_cost_weight": 0.1, "reset_noise_scale": 1e-2,
    "include_cinert_in_observation": True, "include_cvel_in_observation": True,
    "include_qfrc_actuator_in_observation": True, **_NOISE, **_HIDES, **_FEELS,
}  # fmt: skip
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    name: {"vary": "all", **options} for name, options in {
        "halfcheetah": {
            "frame_skip": 5, "ctrl_cost_weight": 0.1, "reset_noise_scale": 0.1, **_RUNS,
        },
        "hopper": {
            "frame_skip": 4, "ctrl_cost_weight": 1e-3, "reset_noise_scale": 5e-3, **_RUNS,
            **_STANDS,
        },
        "walker2d": {
            "frame_skip": 4, "ctrl_cost_weight": 1e-3, "reset_noise_scale": 5e-3, **_RUNS,
            **_STANDS,
        },
        "swimmer": {
            "frame_skip": 4, "ctrl_cost_weight": 1e-4, "reset_noise_scale": 0.1, **_RUNS,
        },
        "ant": {
            "frame_skip": 5, "ctrl_cost_weight": 0.5, "contact_cost_weight": 5e-4,
            "reset_noise_scale": 0.1, "main_body": 1, **_RUNS, **_STANDS, **_FEELS,
        },
        "humanoid": {
            **_PERSON, **_STANDS, "forward_reward_weight": 1.25, "contact_cost_weight": 5e-7,
            "healthy_reward": 5.0,
        },
        "humanoid_standup": {**_PERSON, "impact_cost_weight": 5e-7},
        "reacher": {"frame_skip": 2, "reward_dist_weight": 1.0, "reward_control_weight": 1.0},
        "pusher": {
            "frame_skip": 5, "reward_near_weight": 0.5, "reward_dist_weight": 1.0,
            "reward_control_weight": 0.1,
        },
        "inverted_pendulum": {"frame_skip": 2, "reset_noise_scale": 0.01, **_NOISE},
        "inverted_double_pendulum": {
            "frame_skip": 5, "healthy_reward": 10.0, "reset_noise_scale": 0.1, **_NOISE,
        },
    }.items()
}  # fmt: skip
"""Options of the tasks with Gymnasium's defaults; ``eval_reset_noise_scale`` is that of evaluation
episodes, None: the one of training."""


RETURNS: Mapping[str, tuple[float, float]] = {
    "halfcheetah": (-279.4, 11_321.0),
    "hopper": (17.8, 3_542.0),
    "walker2d": (1.6, 5_007.0),
    "swimmer": (0.6, 301.0),
    "ant": (-53.2, 4_943.0),
    "humanoid": (118.1, 2_661.0),
    "humanoid_standup": (33_999.1, 150_913.0),
    "reacher": (-43.0, -5.0),
    "pusher": (-149.3, -37.1),
    "inverted_pendulum": (5.0, 1_000.0),
    "inverted_double_pendulum": (47.7, 9_350.0),
}
"""Returns at level 0 of the uniform random policy (means of 400 episodes), and of published agents.
The second is the upper reference of the scores at every level, where nobody knows the best return.
Published are: of HalfCheetah SAC after a million steps (10 seeds, Lee et al. 2025); of Hopper and
Walker2d the same (10 seeds, Weng et al. 2022); of the pendulums what balances to the end; of the
others the best of three algorithms on version 5 (4 seeds, Keng and Graesser 2017)."""


def _missing() -> str | None:
    from envs_jax.mujoco.engine import missing

    return missing()


def _card(name: str, gymnasium: str, step_us: float, **steps: int) -> EnvironmentCard:
    """The card of a robot.

    Args:
      name: registry name.
      gymnasium: Gymnasium's, without the version.
      step_us: microseconds of a step of the task, on one core.
      **steps: budgets of algorithms that differ from the usual ones.
    """
    return EnvironmentCard(
        name=name,
        aliases=(f"{gymnasium}-v5",),
        title=Title(gymnasium, gymnasium),
        listing=Listing.BY_NAME,
        task=TaskCard(
            make="envs_jax.mujoco.tasks:MujocoTask",
            fixed={"name": name},
            options=OPTIONS[name],
            describe="envs_jax.mujoco.tasks:describe_level",
            missing=_missing,
        ),
        # An episode takes up to 1 000 steps; nothing on the host is probed.
        limits=Limits(
            episodes=100, curve_episodes=10, quick_episodes=2, knows_ceiling=False, can_probe=False
        ),
        setups=setups(step_us, **steps),
    )


def setups(
    step_us: float, off_policy: int = 100_000, ppo: int = 1_000_000, es: int = 10_000_000
) -> dict[str, Setup]:
    """Setups of an environment on the host.

    Args:
      step_us: microseconds of a step of the task, on one core.
      off_policy: budget of what learns from a replay, in env steps.
      ppo: that of PPO.
      es: that of ES.
    """
    learned: dict[str, Any] = {
        # An update for each step, as published runs have it.
        "total_steps": off_policy, "learning_rate": 3e-4, "hidden": (256, 256), "num_envs": 1,
        "num_steps": 1, "batch_size": 256, "replay_ratio": 256, "buffer_size": 300_000,
    }  # fmt: skip
    small = {"hidden": [32, 32], "batch_size": 48, "replay_ratio": 48}
    return {
        # The usual settings (Haarnoja et al. 2018b).
        "sac": Setup(
            SACConfig(**learned, learning_starts=min(5_000, off_policy // 4)),
            seconds=7500.0 + step_us, quick=small,
        ),
        # Those of CleanRL (Huang et al. 2022).
        "td3": Setup(
            TD3Config(**learned, learning_starts=min(25_000, off_policy // 4)),
            seconds=6000.0 + step_us, quick=small,
        ),
        "ppo": Setup(
            PPOConfig(
                total_steps=ppo, learning_rate=3e-4, hidden=(64, 64), num_envs=8, num_steps=128,
                num_epochs=10, num_minibatches=32, entropy=0.0, scale_rewards=True,
                normalize_observations=True, anneal_learning_rate=True,
            ),
            seconds=25.0 + step_us, quick={"num_envs": 2, "num_steps": 64, "num_minibatches": 4},
        ),
        "grpo": Setup(
            GRPOConfig(
                total_steps=1_000_000, learning_rate=3e-4, hidden=(64, 64), num_envs=4,
                num_steps=1000, group_size=4, num_epochs=10, minibatch_size=256, gamma=0.99,
                normalize_observations=True,
            ),
            seconds=25.0 + step_us, quick={"num_steps": 100, "num_epochs": 2},
        ),
        "es": Setup(
            ESConfig(
                total_steps=es, learning_rate=0.02, hidden=(64, 64), num_envs=32, num_steps=1000,
                population=32, sigma=0.05,
            ),
            seconds=10.0 + step_us, quick={"population": 4, "num_envs": 4, "num_steps": 100},
        ),
    }  # fmt: skip


CARDS = (
    _card("halfcheetah", "HalfCheetah", 15),
    _card("hopper", "Hopper", 25),
    _card("walker2d", "Walker2d", 40),
    _card("swimmer", "Swimmer", 15),
    _card("ant", "Ant", 70),
    _card("humanoid", "Humanoid", 150),
    _card("humanoid_standup", "HumanoidStandup", 250),
    _card("reacher", "Reacher", 10),
    _card("pusher", "Pusher", 30),
    _card("inverted_pendulum", "InvertedPendulum", 5, off_policy=20_000, ppo=100_000),
    _card("inverted_double_pendulum", "InvertedDoublePendulum", 20, off_policy=50_000, ppo=500_000),
)
NAMES = tuple(card.name for card in CARDS)


def option_names(robots: Sequence[str]) -> list[str]:
    """Names of the options of these robots, but for what varies, in their order."""
    names = {key: None for name in robots for key in OPTIONS[name]}
    return [name for name in names if name != "vary"]


def changed(card: EnvironmentCard, options: Mapping[str, Any]) -> EnvironmentCard:
    """The card of a robot whose task has these options, and otherwise the usual ones."""
    return replace(card, task=replace(card.task, options={**OPTIONS[card.name], **options}))

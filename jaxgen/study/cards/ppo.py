"""The card of proximal policy optimisation.

``ppo-published`` is that of Cobbe et al. 2020 on procgen, ``ppo-mujoco`` that of Huang et al. 2022
on MuJoCo's robots: one environment, and all of their details for continuous actions.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts
from jaxgen.study.config import PPOConfig

_MUJOCO = {
    "num_variations": 1, "num_envs": 1, "num_steps": 2048, "num_epochs": 10, "num_minibatches": 32,
    "learning_rate": 3e-4, "gamma": 0.99, "entropy": 0.0, "scale_rewards": True,
    "normalize_observations": True, "clip_values": True, "anneal_learning_rate": True,
}

CARD = AlgorithmCard(
    config=PPOConfig,
    make="jaxgen.algorithms.ppo:make_ppo",
    facts=Facts(value_loss="value_loss"),
    variants={
        "ppo-published": {
            "learning_rate": 5e-4, "hidden": (256,), "network": "impala", "num_frames": 1,
            "num_envs": 21, "num_steps": 256, "scale_rewards": True,
        },
        "ppo-beta": {"policy": "beta"},
        "ppo-mujoco": _MUJOCO,
        "ppo-mujoco-beta": {**_MUJOCO, "policy": "beta"},
    },
)

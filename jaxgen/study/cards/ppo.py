"""The card of proximal policy optimisation."""

from jaxgen.study.cards.base import AlgorithmCard, Facts
from jaxgen.study.config import PPOConfig

CARD = AlgorithmCard(
    config=PPOConfig,
    make="jaxgen.algorithms.ppo:make_ppo",
    facts=Facts(value_loss="value_loss"),
    variants={
        "ppo-published": {
            "learning_rate": 5e-4, "hidden": (256,), "network": "impala", "num_frames": 1,
            "num_envs": 21, "num_steps": 256, "scale_rewards": True,
        },
    },
)

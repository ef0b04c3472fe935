"""The card of group relative policy optimisation.

``grpo-published`` credits episodes and begins them anywhere, as the one public implementation for
MuJoCo's robots does; ``grpo-beta`` is the other policy.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, Listing, Overrides
from jaxgen.study.config import Config, GRPOConfig


def _quick(config: Config) -> Overrides:
    # A few iterations of episodes that end early.
    return {"total_steps": 2 * config.steps_per_iteration // 10}


_PUBLISHED = {
    "num_variations": 1, "num_envs": 16, "group_size": 16, "num_epochs": 10, "minibatch_size": 256,
    "learning_rate": 1e-4, "gamma": 1.0, "credit": "episode", "scale_by_deviation": True,
    "normalize_observations": False,
}

CARD = AlgorithmCard(
    config=GRPOConfig,
    make="jaxgen.algorithms.grpo:make_grpo",
    facts=Facts(independent_halves=False, quick=_quick),
    variants={
        "grpo-beta": {"policy": "beta"},
        "grpo-published": _PUBLISHED,
        "grpo-published-beta": {**_PUBLISHED, "policy": "beta"},
    },
    listing=Listing.BY_NAME,
)

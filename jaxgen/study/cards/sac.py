"""The card of soft actor-critic.

``sac-published`` trains in one environment, as published runs do; ``sac-half`` holds the policy to
an entropy of -dim A / 2.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, Overrides
from jaxgen.study.config import Config, SACConfig


def _quick(config: Config) -> Overrides:
    return {"learning_starts": 2 * config.steps_per_iteration}


CARD = AlgorithmCard(
    config=SACConfig,
    make="jaxgen.algorithms.sac:make_sac",
    facts=Facts(value_loss="loss", quick=_quick),
    variants={
        "sac-published": {"num_variations": 1},
        "sac-half": {"target_entropy": 0.5},
    },
)

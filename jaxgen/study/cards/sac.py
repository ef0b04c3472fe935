"""The card of soft actor-critic.

``sac-published`` trains in one environment, as published runs do; ``sac-half`` holds the policy to
an entropy of -dim A / 2.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, learn_at_once
from jaxgen.study.config import SACConfig

CARD = AlgorithmCard(
    config=SACConfig,
    make="jaxgen.algorithms.sac:make_sac",
    facts=Facts(value_loss="loss", quick=learn_at_once),
    variants={
        "sac-published": {"num_variations": 1},
        "sac-half": {"target_entropy": 0.5},
    },
)

"""The card of soft actor-critic.

``sac-published`` trains in one environment, as published runs do; ``sac-half`` holds the policy to
an entropy of -dim A / 2. ``crossq`` has no target network and normalises its critics by statistics
of the batch (Bhatt et al. 2024, whose critics are eight times as wide and whose Adam has b1 = .5).
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, learn_at_once
from jaxgen.study.config import SACConfig

_CROSSQ = {"critic_norm": "batch", "policy_delay": 3, "learning_rate": 1e-3}

CARD = AlgorithmCard(
    config=SACConfig,
    make="jaxgen.algorithms.sac:make_sac",
    facts=Facts(value_loss="loss", quick=learn_at_once),
    variants={
        "sac-published": {"num_variations": 1},
        "sac-half": {"target_entropy": 0.5},
        "crossq": _CROSSQ,
        "crossq-published": {**_CROSSQ, "num_variations": 1},
    },
)

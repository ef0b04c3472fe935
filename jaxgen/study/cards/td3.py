"""The card of twin delayed deep deterministic policy gradient.

``ddpg`` is the same with one critic, without delay and target noise (Lillicrap et al. 2016); those
that are called ``-published`` train in one environment, as published runs do.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, learn_at_once
from jaxgen.study.config import TD3Config

_DDPG = {"num_critics": 1, "policy_delay": 1, "target_noise": 0.0}
_PUBLISHED = {"num_variations": 1}

CARD = AlgorithmCard(
    config=TD3Config,
    make="jaxgen.algorithms.td3:make_td3",
    facts=Facts(value_loss="loss", quick=learn_at_once),
    variants={
        "td3-published": _PUBLISHED,
        "ddpg": _DDPG,
        "ddpg-published": {**_DDPG, **_PUBLISHED},
    },
)

"""The card of soft actor-critic.

``sac-published`` trains in one environment, as published runs do; ``sac-half`` holds the policy to
an entropy of -dim A / 2.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, Overrides, learn_soon
from jaxgen.study.config import Config, SACConfig

QUICK_ITERATIONS = 200
"""Iterations of a quick run: one has as many updates as steps, which may be one."""


def _quick(config: Config) -> Overrides:
    total_steps = QUICK_ITERATIONS * config.steps_per_iteration
    return {**learn_soon(config), "total_steps": total_steps}


CARD = AlgorithmCard(
    config=SACConfig,
    make="jaxgen.algorithms.sac:make_sac",
    facts=Facts(value_loss="loss", quick=_quick),
    variants={
        "sac-published": {"num_variations": 1},
        "sac-half": {"target_entropy": 0.5},
    },
)

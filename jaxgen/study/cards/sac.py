"""The card of soft actor-critic."""

from jaxgen.study.cards.base import AlgorithmCard, Facts, Overrides
from jaxgen.study.config import Config, SACConfig


def _quick(config: Config) -> Overrides:
    return {"learning_starts": 2 * config.steps_per_iteration}


CARD = AlgorithmCard(
    config=SACConfig,
    make="jaxgen.algorithms.sac:make_sac",
    facts=Facts(value_loss="loss", quick=_quick),
    variants={"sac-half": {"target_entropy": 0.5}},
)

"""The card of OpenAI evolution strategies.

ES has one pseudo-gradient, to which no rule applies, or with ``es-gar`` one of each variation. It
has no gradients to agree, so that its gar arms are other arms by another name.

``es-matched`` counts the steps of every member against the budget that the other algorithms have,
which is a handful of generations.

``es-lecun`` starts from smaller weights. Over 10 seeds of each arm it is better than ``es`` on
CartPole: A rises from .494 to .688 (baseline) and from .938 to .997 (dr), the sampled return at
level 0 from 120 to 273 and from 346 to 470. On the grid the two cannot be distinguished: A is .275
beside .285 (baseline) and .287 beside .274 (dr).
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, Overrides, Techniques
from jaxgen.study.config import Config, ESConfig
from jaxgen.techniques import Rule, Technique


def _has(technique: Technique) -> bool:
    return technique.rule in (Rule.WEIGHTS, Rule.APART) and technique.uniform == 0


def _quick(config: Config) -> Overrides:
    # Steps of a few generations of members that fail early.
    return {"total_steps": 2 * config.steps_per_iteration // 10}


CARD = AlgorithmCard(
    config=ESConfig,
    make="jaxgen.algorithms.es:make_es",
    techniques=Techniques(_has, {"gar": "baseline", "gar+reg": "reg"}),
    facts=Facts(independent_halves=False, counts_population=True, quick=_quick),
    variants={
        "es-matched": {"total_steps": "ppo"},
        "es-lecun": {"initialisation": "lecun"},
    },
)

"""The card of deep Q-learning.

The variants ask what keeps DQN from learning the grid: a mistake that is often made
(``dqn-truncation``, ``dqn-autoreset``), what the network sees (``dqn-onehot``), or a setting;
``dqn+`` puts together the two settings that help most.
"""

from jaxgen.study.cards.base import AlgorithmCard, Facts, learn_soon
from jaxgen.study.config import DQNConfig

CARD = AlgorithmCard(
    config=DQNConfig,
    make="jaxgen.algorithms.dqn:make_dqn",
    facts=Facts(value_loss="loss", quick=learn_soon),
    variants={
        "dqn-onehot": {"encoding": "one_hot"},
        "dqn+": {"gamma": 0.95, "n_step": 3},
        "dqn-truncation": {"bootstrap_truncations": False},
        "dqn-autoreset": {"true_successors": False},
        "dqn-lr5e-4": {"learning_rate": 5e-4},
        "dqn-batch64": {"batch_size": 64},
        "dqn-nstep3": {"n_step": 3},
        "dqn-gamma95": {"gamma": 0.95},
    },
)

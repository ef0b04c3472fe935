"""An algorithm: A2C, which is PPO with a single update on each rollout, where clipping is idle."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jaxgen
from jaxgen.study.config import PPOConfig


@dataclass(frozen=True, kw_only=True)
class A2CConfig(PPOConfig):
    """PPO's configuration with a number of its own."""

    algorithm: ClassVar[str] = "a2c"
    boldness: float = 4.0
    """Multiplies the learning rate, as there are fewer updates."""


def make_a2c(config, technique, spec):
    from jaxgen.algorithms.ppo import make_ppo

    rate = config.learning_rate * config.boldness
    once = replace(config, num_epochs=1, num_minibatches=1, learning_rate=rate)
    return make_ppo(once, technique, spec)


preset = A2CConfig(**vars(jaxgen.preset("ppo", "cartpole")))
setups = {name: jaxgen.Setup(preset) for name in ("cartpole", "boat")}
card = jaxgen.AlgorithmCard(config=A2CConfig, make="a2c:make_a2c", setups=setups)
jaxgen.register_algorithm(card)

"""Algorithms by name: name -> constructor (config, technique, spec) -> Algorithm."""

from collections.abc import Callable

from jaxgen.algorithms.base import Algorithm
from jaxgen.algorithms.dqn import make_dqn
from jaxgen.algorithms.es import make_es
from jaxgen.algorithms.ppo import make_ppo

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {"ppo": make_ppo, "dqn": make_dqn, "es": make_es}

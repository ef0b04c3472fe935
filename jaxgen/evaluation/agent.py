"""A trained policy that acts without knowing how it was configured."""

from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import Algorithm
from jaxgen.evaluation.policy import Acting, acting
from jaxgen.evaluation.specs import spec_from_dict, spec_to_dict
from jaxgen.nn.random import evaluation_words
from jaxgen.study.config import Config, from_dict, to_dict
from jaxgen.study.presets import algorithm_card, base_algorithm
from jaxgen.study.spec import RunSpec
from jaxgen.system import checkpoint
from jaxgen.system.options import computing
from jaxgen.techniques import make_technique
from jaxgen.types import Array, EnvSpec

KIND = "jaxgen agent"


class Agent(NamedTuple):
    """Parameters with everything that is needed to act."""

    algorithm: str
    """Name of the algorithm or preset."""
    technique: str
    config: Config
    spec: EnvSpec
    params: Array | np.ndarray
    """float32 ``[D]``."""
    seed: int = 0

    @classmethod
    def of(cls, run: RunSpec, spec: EnvSpec, params: Array | np.ndarray, seed: int) -> "Agent":
        """The agent of a finished run."""
        return cls(run.algorithm, run.technique, run.config, spec, params, seed)

    @computing()
    def functions(self) -> Algorithm:
        """The algorithm's pure functions."""
        return _functions(self.algorithm, self.technique, self.config, self.spec)

    @computing()
    def preferences(self, obs: Array | np.ndarray) -> Array:
        """Logits or Q-values: obs ``[..., *obs_shape]`` -> float32 ``[..., num]``.

        Raises:
          ValueError: the observation has another shape than the agent's environment gives, or
            its actions are no numbered choices.
        """
        self._lead(obs)
        if self.functions().policy.scores is None:
            raise ValueError(
                f"an agent of {self.spec.name} has no preferences, as its actions are no numbered "
                "choices; use act"
            )
        return _preferences(self.functions(), jnp.asarray(self.params), jnp.asarray(obs))

    @computing()
    def act(self, obs: Array | np.ndarray, key: Array | None = None) -> Array:
        """Choose actions that the agent's environment takes: obs ``[..., *obs_shape]`` ->
        int32 ``[...]``, or float32 ``[..., A]`` within a `Box`.

        Args:
          obs: observations of the agent's environment.
          key: samples the policy (PPO, ES: its distribution; DQN: epsilon .05); None: greedy.

        Raises:
          ValueError: the observation has another shape than the agent's environment gives.
        """
        chosen_by = self.acting(sampled=key is not None)
        shape = (*self._lead(obs), chosen_by.num_words)
        words = np.zeros(shape, np.uint32) if key is None else evaluation_words(key, shape)
        return self.spec.actions.scale(chosen_by.choose(jnp.asarray(obs), words))

    def acting(self, sampled: bool) -> Acting:
        """The agent as what plays episodes, compiled; actions for a `Box` are in [-1, 1]."""
        functions = self.functions()
        choose = partial(_choose, functions, sampled, jnp.asarray(self.params))
        return Acting(choose, functions.policy.num_words)

    def _lead(self, obs: Array | np.ndarray) -> tuple[int, ...]:
        """The axes in front of an observation's own."""
        shape, expected = np.shape(obs), self.spec.obs_shape
        num_lead = len(shape) - len(expected)
        if num_lead < 0 or shape[num_lead:] != expected:
            raise ValueError(
                f"an observation of shape {shape} is not allowed; the agent was trained on "
                f"{self.spec.name}: pass [..., {', '.join(map(str, expected))}]"
            )
        return shape[:num_lead]


def save_agent(path: str | Path, agent: Agent) -> None:
    """Write an agent to a folder, with checksums; an agent that is there is replaced."""
    network_params = {"params": np.asarray(agent.params)}
    meta = {
        "kind": KIND,
        "algorithm": agent.algorithm,
        "base": base_algorithm(agent.algorithm),
        "technique": agent.technique,
        "config": to_dict(agent.config),
        "spec": spec_to_dict(agent.spec),
        "seed": agent.seed,
    }
    checkpoint.save(path, network_params, meta)


def load_agent(path: str | Path) -> Agent:
    """Read an agent, e.g. ``results/best_models/ppo_cartpole_best``.

    Raises:
      jaxgen.system.checkpoint.DamagedCheckpoint: the folder is missing or not what was written.
      ValueError: it holds something else than an agent.
    """
    tree, meta = checkpoint.load(path)
    if meta.get("kind") != KIND:
        raise ValueError(f"{path} holds no agent; use a folder of best_models")
    config = from_dict(algorithm_card(meta["base"]).config, meta["config"])
    return Agent(
        meta["algorithm"], meta["technique"], config, spec_from_dict(meta["spec"]),
        tree["params"], meta["seed"],
    )


@lru_cache(maxsize=64)
def _functions(algorithm: str, technique: str, config: Config, spec: EnvSpec) -> Algorithm:
    """Made once, so that what is compiled for them is found again."""
    return ALGORITHMS[base_algorithm(algorithm)](config, make_technique(technique), spec)


@partial(jax.jit, static_argnums=0)
def _preferences(functions: Algorithm, params: Array, obs: Array) -> Array:
    scores = functions.policy.scores
    assert scores is not None, "the caller has looked"
    return scores(params, obs)


@partial(jax.jit, static_argnums=(0, 1))
def _choose(
    functions: Algorithm, sampled: bool, params: Array, obs: Array, words: Array
) -> Array:
    return acting(functions.policy, params, sampled).choose(obs, words)



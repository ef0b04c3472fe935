"""A trained policy that acts without knowing how it was configured."""

import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import Algorithm
from jaxgen.evaluation.policy import Acting, acting
from jaxgen.evaluation.specs import spec_from_dict, spec_to_dict
from jaxgen.nn.random import evaluation_words
from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.config import Config, from_dict, to_dict
from jaxgen.study.spec import RunSpec
from jaxgen.system import checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.system.options import computing
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, HostTask, Task

KIND = "jaxgen agent"
VERSION = 1
"""Version of what is saved of an agent; 0, that of agents that name none, lacks ``fault``."""


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
    fault: str | None = None
    """Why its training diverged, in words; None: it did not, as far as is known."""

    @classmethod
    def of(cls, run: RunSpec, spec: EnvSpec, params: Array | np.ndarray, seed: int) -> "Agent":
        """The agent of a finished run."""
        return cls(run.algorithm, run.technique, run.config, spec, params, seed)

    @computing()
    def functions(self) -> Algorithm:
        """The algorithm's pure functions to act with; they depend on no technique."""
        return _functions(self.config, self.spec)

    @computing()
    def preferences(self, obs: Array | np.ndarray) -> Array:
        """Logits or Q-values: obs ``[..., *obs_shape]`` -> float32 ``[..., num]``.

        Q-values are of rewards in the units in which they were learned, ``reward_scale`` times
        those of the environment.

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


def check_fits(agent: Agent, task: Task | HostTask) -> None:
    """Raise BadInput where an agent was trained on something else, or its training diverged."""
    spec, shown = agent.spec, task.spec
    if shown.is_image:
        shown = shown.stacked(agent.config.num_frames)
    differing = [
        f"{name} is {getattr(shown, name)} here, {value} there"
        for name, value in vars(spec).items() if value != getattr(shown, name)
    ]  # fmt: skip
    if differing:
        raise BadInput(
            f"an agent of {spec.name} cannot act in {shown.name}; make the task that it was "
            f"trained on: {'; '.join(differing)}"
        )
    fault = agent.fault
    if not np.isfinite(agent.params).all():
        fault = "its parameters are not finite"
    if fault:
        raise BadInput(
            f"{agent.algorithm} with seed {agent.seed} diverged, so that it has no returns: "
            f"{fault}; lower the learning rate, or look for rewards that are not finite"
        )


def save_agent(path: str | Path, agent: Agent) -> None:
    """Write an agent to a folder, with checksums; an agent that is there is replaced."""
    network_params = {"params": np.asarray(agent.params)}
    meta = {
        "kind": KIND,
        "version": VERSION,
        "algorithm": agent.algorithm,
        "base": agent.config.algorithm,
        "technique": agent.technique,
        "config": to_dict(agent.config),
        "spec": spec_to_dict(agent.spec),
        "seed": agent.seed,
        "fault": agent.fault,
    }
    checkpoint.save(path, network_params, meta)


def load_agent(path: str | Path) -> Agent:
    """Read an agent, e.g. ``results/best_models/ppo_cartpole_best``.

    Settings that an older version did not save have the defaults of their class, and a warning
    names them.

    Raises:
      jaxgen.system.checkpoint.DamagedCheckpoint: the folder is missing or not what was written.
      BadInput: it holds something else than an agent, one of a newer version, or one of an
        algorithm that is not registered.
    """
    tree, meta = checkpoint.load(path)
    if meta.get("kind") != KIND:
        raise BadInput(f"{path} holds no agent; use a folder of best_models")
    config, spec = _config(path, meta), spec_from_dict(meta["spec"])
    return Agent(
        meta["algorithm"], meta["technique"], config, spec, tree["params"], meta["seed"],
        meta.get("fault"),
    )


def _config(path: str | Path, meta: dict[str, Any]) -> Config:
    """The configuration of a saved agent."""
    if meta.get("version", 0) > VERSION:
        raise BadInput(
            f"{path} was saved by a newer jaxgen (version {meta['version']} of agents; this one "
            f"reads up to {VERSION}); install that"
        )
    card = ALGORITHM_CARDS.get(meta["base"])
    if card is None:
        raise BadInput(
            f"{path} is an agent of {meta['base']}, an algorithm that is not registered here; "
            "import the module that registers it first"
        )
    config = from_dict(card.config, meta["config"])
    absent = [f"{key} = {value!r}" for key, value in to_dict(config).items()
              if key not in meta["config"]]  # fmt: skip
    if absent:
        warnings.warn(
            f"{path} was saved by an older jaxgen, without {', '.join(absent)}: these are defaults "
            "of today, so that it may act otherwise than it was trained to",
            stacklevel=3,
        )
    return config


@lru_cache(maxsize=64)
def _functions(config: Config, spec: EnvSpec) -> Algorithm:
    """Made once, so that what is compiled for them is found again."""
    return ALGORITHMS[config.algorithm](config, Technique(), spec)


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



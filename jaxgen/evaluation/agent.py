"""A trained policy that acts without knowing how it was configured."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import Algorithm
from jaxgen.evaluation.policy import Acting, acting
from jaxgen.evaluation.suite import Suite
from jaxgen.nn.random import evaluation_words
from jaxgen.study.config import Config
from jaxgen.system.errors import BadInput
from jaxgen.system.options import computing
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, HostTask, Task


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
    run: str | None = None
    """Name of the run of a study that it is of."""
    task_options: Mapping[str, Any] | None = None
    """Arguments with which its task was made, by name; None: they are not known."""
    history: Mapping[str, np.ndarray] = {}
    """Metrics of its training by name, ``[I]`` iterations each, ``env_steps``, ``reward`` and
    ``loss`` among them; not saved, as those of a study's runs lie beside them."""
    critic: np.ndarray | None = None
    """Vector of what judged its actions, float32 ``[D]``, kept of runs that fork or are forks."""

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


def returns_of(agent: Agent, suite: Suite, mode: str) -> np.ndarray:
    """Returns of an agent over fixed episodes, float32 ``[K, E]``; ``mode``: greedy or sampled.

    Raises:
      BadInput: a return is not finite.
    """
    policy, num_frames = agent.functions().policy, agent.config.num_frames
    returns = np.asarray(suite.play(policy, agent.params, mode == "sampled", num_frames).returns)
    if (bad := ~np.isfinite(returns)).any():
        raise BadInput(
            f"{agent.algorithm} with seed {agent.seed} has no finite return in {bad.sum()} of "
            f"{bad.size} episodes ({mode}); look for actions or rewards that are not finite"
        )
    return returns


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


def start_vector(agent: Agent, task: Task | HostTask, algorithm: str, base: str) -> np.ndarray:
    """The parameters ``[D]`` of an agent that training begins with.

    Args:
      agent: whose policy it is.
      task: on which it is trained on.
      algorithm: by which, as a person calls it.
      base: the registry name behind that.

    Raises:
      BadInput: as `check_fits`, or the agent is another algorithm's.
    """
    check_fits(agent, task)
    if agent.config.algorithm != base:
        raise BadInput(
            f"an agent of {agent.algorithm} cannot be trained on by {algorithm}; use its own "
            "algorithm"
        )
    return np.asarray(agent.params)


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



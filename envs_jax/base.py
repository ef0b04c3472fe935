"""What an environment and a task are.

An environment is two pure functions over arrays of any leading shape ``S``:

- ``reset_from(words, params)``: a fresh state from raw random words;
- ``advance(state, action, params)``: one step, no auto-reset, no randomness.

Randomness arrives as uint32 words, because drawing the words of all
environments and all steps in one call is several times cheaper than a key for
each environment. Whatever varies between variations lives in ``params``, an
argument, so that one compiled program serves all variation levels.

`Environment` adds the gymnax 1.x surface (``reset``, ``step`` with auto-reset)
on top, and `Task` the table from a variation level to parameters.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxgen.types import Array, EnvSpec, PyTree


class Environment:
    """A pure JAX environment; subclasses define the abstract methods below."""

    spec: EnvSpec
    reset_words: int
    """How many uint32 words one reset consumes."""

    @property
    def default_params(self) -> PyTree:
        """Parameters at variation level 0."""
        raise NotImplementedError

    def reset_from(self, words: Array, params: PyTree) -> tuple[Array, PyTree]:
        """Start episodes: words uint32 ``[*S, reset_words]`` -> obs ``[*S, ...]``, state ``[*S]``."""
        raise NotImplementedError

    def advance(
        self, state: PyTree, action: Array, params: PyTree
    ) -> tuple[Array, PyTree, Array, Array, Array]:
        """Step without auto-reset -> obs, state, reward (float32), terminated, truncated (bool)."""
        raise NotImplementedError

    def render(self, state: PyTree, params: PyTree) -> Any:
        """Draw one state as an RGB array ``[H, W, 3]`` uint8 (numpy)."""
        raise NotImplementedError

    # gymnax 1.x surface

    @property
    def name(self) -> str:
        """The registry name."""
        return self.spec.name

    @property
    def num_actions(self) -> int:
        """The number of discrete actions."""
        return self.spec.num_actions

    def reset(self, key: Array, params: PyTree | None = None) -> tuple[Array, PyTree]:
        """Start one episode -> obs, state."""
        params = self.default_params if params is None else params
        return self.reset_from(jax.random.bits(key, (self.reset_words,), "uint32"), params)

    def step(
        self, key: Array, state: PyTree, action: Array, params: PyTree | None = None
    ) -> tuple[Array, PyTree, Array, Array, Array, dict[str, Array]]:
        """Step one environment and reset it where the episode ended.

        Returns obs, state, reward, terminated, truncated, info; the true
        successor is ``info["final_observation"]``.
        """
        params = self.default_params if params is None else params
        final_obs, next_state, reward, terminated, truncated = self.advance(state, action, params)
        done = terminated | truncated
        fresh_obs, fresh_state = self.reset(key, params)
        obs, next_state = jax.tree.map(
            lambda a, b: jnp.where(done, a, b), (fresh_obs, fresh_state), (final_obs, next_state)
        )
        info = {"terminated": terminated, "truncated": truncated, "final_observation": final_obs}
        return obs, next_state, reward, terminated, truncated, info


class Task(Protocol):
    """An environment with its variation table: what a study trains and evaluates on."""

    spec: EnvSpec
    environment: Environment
    refresh_steps: int | None
    """Env steps (of one lane) between fresh training parameters; None: never."""

    def training_params(self, key: Array, levels: Array) -> PyTree:
        """Parameters of the training variations: levels float32 ``[V]`` -> params ``[V]``.

        A task with generated content (layouts) draws it here from ``key``;
        traceable, vmappable over lanes.
        """
        ...

    def evaluation(self, key: Array, levels: Array, num_episodes: int) -> tuple[PyTree, Array]:
        """Parameters ``[K]`` and reset words ``[K, E, reset_words]`` of fixed evaluation episodes.

        Episode e of level k is the same for every policy that is evaluated with ``key``.
        """
        ...

    def ceiling(self, params: PyTree, words: Array) -> Array:
        """The best return that each evaluation episode allows, float32 ``[K, E]``."""
        ...

    def fingerprints(self, params: PyTree) -> Array | None:
        """A uint32 per generated training or evaluation instance, ``[K, M]``; None: nothing to overlap."""
        ...

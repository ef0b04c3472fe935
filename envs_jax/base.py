"""Environments and tasks.

An environment is two pure functions over arrays of any leading shape ``S``:

- ``reset_from(words, params)``: a fresh state from raw random words;
- ``advance(state, action, params)``: one step, no auto-reset, no randomness.

Randomness arrives as uint32 words, because drawing the words of all
environments and all steps in one call is several times cheaper than a key for
each environment. Whatever varies between variations lives in ``params``, an
argument, so that one compiled program serves all variation levels.

`Environment` adds the gymnax 1.x surface (``reset``, ``step`` with auto-reset)
on top; a `Task` (`jaxgen.types`) holds the table from a level to parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxgen.types import Array, Discrete, EnvSpec, PyTree, Task

__all__ = ["Environment", "ParameterTask", "Task", "check_levels"]


TEXT_WIDTH, LINE_HEIGHT, MAX_NUMBERS = 200, 16, 6
"""Pixels of the drawing of a state in numbers, and the most numbers of each of its arrays."""


def check_levels(levels: Any) -> Array:
    """Variation levels as float32 of the same shape; traced ones cannot be checked.

    Raises ValueError for a concrete level outside of [0, 1], NaN included.
    """
    if not isinstance(levels, Tracer):
        values = np.asarray(levels, np.float64)
        bad = values[~((values >= 0) & (values <= 1))]
        if bad.size:
            raise ValueError(
                f"variation level {bad[0]} is not allowed: a level lies in [0, 1], "
                "0 for the training environment and 1 for the largest shift"
            )
    return jnp.asarray(levels, jnp.float32)


def _numbers(leaf: Any) -> str:
    """The first numbers of an array as text."""
    values = np.asarray(leaf).ravel()
    return " ".join(f"{value:.4g}" for value in values[:MAX_NUMBERS])


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
        """Start episodes: words uint32 ``[*S, reset_words]`` -> obs, state, both ``[*S, ...]``."""
        raise NotImplementedError

    def advance(
        self, state: PyTree, action: Array, params: PyTree
    ) -> tuple[Array, PyTree, Array, Array, Array]:
        """Step without auto-reset: actions ``[*S, *action shape]`` within their space.

        Returns obs, state, reward (float32), terminated, truncated (bool).
        """
        raise NotImplementedError

    def render(self, state: PyTree, params: PyTree) -> Any:
        """Draw one state as an RGB array ``[H, W, 3]`` uint8 (numpy): its numbers, as text.

        Subclasses draw pictures.
        """
        del params
        from PIL import Image, ImageDraw

        leaves = jax.tree_util.tree_leaves_with_path(state)
        lines = [
            f"{jax.tree_util.keystr(path, simple=True, separator='.')} {_numbers(leaf)}"
            for path, leaf in leaves
        ]
        sheet = Image.new("RGB", (TEXT_WIDTH, LINE_HEIGHT * (len(lines) + 1)), "white")
        ImageDraw.Draw(sheet).multiline_text((8, 8), "\n".join(lines), "black")
        return np.asarray(sheet)

    # gymnax 1.x surface

    @property
    def name(self) -> str:
        """The registry name."""
        return self.spec.name

    @property
    def num_actions(self) -> int:
        """The number of discrete actions.

        Raises AttributeError where actions are a `jaxgen.types.Box`.
        """
        actions = self.spec.actions
        if not isinstance(actions, Discrete):
            raise AttributeError(f"the actions of {self.name} are {actions}; see spec.actions")
        return actions.num

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


class ParameterTask:
    """A task whose levels are a table of parameters: nothing is generated, and nothing refreshed.

    Args:
      environment: what is played.
      params_at: levels float32 ``[*S]`` -> the environment's parameters, leaves ``[*S]``.
      ceiling: the best return that can be had, the same at every level. Scores are fractions of the
        way to it from random play; where nobody knows it, any fixed number above all returns makes
        arms comparable with each other, but not with other environments.
    """

    refresh_steps: int | None = None

    def __init__(
        self, environment: Environment, params_at: Callable[[Any], PyTree], ceiling: float
    ):
        self.environment, self.spec = environment, environment.spec
        self._params_at, self._ceiling = params_at, float(ceiling)

    def training_params(self, key: Array, levels: Array) -> PyTree:
        """Parameters of the training variations: levels ``[V]`` -> params ``[V]``."""
        del key  # Nothing is generated.
        return self._params_at(levels)

    def evaluation(self, key: Array, levels: Array, num_episodes: int) -> tuple[PyTree, Array]:
        """Params ``[K]`` and reset words ``[K, E, W]``; episode e starts alike at every level."""
        words = jax.random.bits(key, (num_episodes, self.environment.reset_words), "uint32")
        return self._params_at(levels), jnp.broadcast_to(words, (levels.shape[0], *words.shape))

    def ceiling(self, params: PyTree, words: Array) -> Array:
        """The best return of every episode, float32 ``[K, E]``."""
        del params
        return jnp.full(words.shape[:-1], self._ceiling, jnp.float32)

    def fingerprints(self, params: PyTree) -> None:
        """None: no instances are generated, so there is nothing to overlap."""
        del params

"""Environments of gymnax 1.x, whose parameters vary between the levels.

What gymnax draws while an episode runs comes from a key in the state, so that an episode depends on
its random words alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.base import Environment, ParameterTask, check_levels
from envs_jax.spaces import actions_of, numbers_of
from envs_jax.varying import checked_ends, values_at
from jaxgen.types import Array, EnvSpec, PyTree

DERIVED = {
    "CartPole-v1": {
        "masscart": "total_mass", "masspole": "total_mass and polemass_length",
        "length": "polemass_length",
    },
}  # fmt: skip
"""Parameters of which gymnax keeps a derived value as another parameter and does not compute it
anew, by environment: varied alone, they would make a world of two masses."""
REFERENCES = {
    "CartPole-v1": 500.0, "Acrobot-v1": -60.0, "MountainCar-v0": -100.0,
    "MountainCarContinuous-v0": 95.0, "Pendulum-v1": -120.0, "Catch-bsuite": 1.0,
}  # fmt: skip
"""Returns that good policies reach at the usual parameters, as fixed references of the scores."""


class GymnaxState(NamedTuple):
    """The state of episodes, leaves ``[*S, ...]``."""

    inner: PyTree
    """Gymnax's own."""
    key: Array
    """Randomness of the steps to come, uint32 ``[*S, 2]``."""


class GymnaxEnvironment(Environment):
    """An environment of gymnax as jaxgen has them.

    Observations of any shape are one vector of numbers.

    Args:
      name: registry name.
      wrapped: gymnax's environment.
      params: its parameters at level 0.
    """

    reset_words = 2

    def __init__(self, name: str, wrapped: Any, params: PyTree):
        self._wrapped, self._params = wrapped, params
        self.spec = EnvSpec(
            name, numbers_of(name, wrapped.observation_space(params)),
            actions_of(name, wrapped.action_space(params)), int(params.max_steps_in_episode),
        )  # fmt: skip

    @property
    def default_params(self) -> PyTree:
        """Parameters at level 0."""
        return self._params

    def reset_from(self, words: Array, params: PyTree) -> tuple[Array, GymnaxState]:
        """Start episodes: words uint32 ``[*S, 2]`` -> obs float32 ``[*S, F]``, state."""
        if words.ndim > 1:
            return jax.vmap(partial(self.reset_from, params=params))(words)
        reset_key, key = jax.random.split(jax.random.wrap_key_data(words))
        obs, inner = self._wrapped.reset_env(reset_key, params)
        return _flat(obs), GymnaxState(_arrays(inner), jax.random.key_data(key))

    def advance(
        self, state: GymnaxState, action: Array, params: PyTree
    ) -> tuple[Array, GymnaxState, Array, Array, Array]:
        """Step without auto-reset."""
        if state.key.ndim > 1:
            return jax.vmap(partial(self.advance, params=params))(state, action)
        step_key, key = jax.random.split(jax.random.wrap_key_data(state.key))
        obs, inner, reward, terminated, _ = self._wrapped.step_env(
            step_key, state.inner, action, params
        )
        truncated = self._wrapped.is_truncated(inner, params)
        after = GymnaxState(_arrays(inner), jax.random.key_data(key))
        return (
            _flat(obs), after, jnp.asarray(reward, jnp.float32).reshape(()),
            jnp.asarray(terminated, bool).reshape(()), jnp.asarray(truncated, bool).reshape(()),
        )  # fmt: skip


class GymnaxTask(ParameterTask):
    """A task in which some parameters grow, or fall, with the level.

    Args:
      id: name in gymnax, e.g. ``"Acrobot-v1"``.
      vary: name of a parameter -> its values at levels 0 and 1; linear between them.
      reference: the return that counts as 1; None: the one of `REFERENCES`.

    Raises:
      ValueError: there is no such environment, parameter or reference.
    """

    def __init__(
        self, id: str, vary: Mapping[str, Sequence[float]] = {}, reference: float | None = None
    ):
        wrapped, params = _make(id)
        self.vary = {name: _ends(id, params, name, ends) for name, ends in vary.items()}
        reference = REFERENCES.get(id) if reference is None else reference
        if reference is None:
            raise ValueError(
                f"the best return of {id} is not known; give --reference R, a return that good "
                "policies reach: scores are fractions of the way to it from random play"
            )
        environment = GymnaxEnvironment(f"gymnax-{id}", wrapped, self._at(params, jnp.float32(0)))
        super().__init__(environment, partial(self._at, params), reference)

    def _at(self, params: PyTree, levels: Any) -> PyTree:
        """Parameters at levels ``[*S]``, leaves ``[*S, ...]``."""
        levels = check_levels(levels)
        values = values_at(self.vary, levels)
        fixed = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*levels.shape, *np.shape(leaf))), params
        )
        return fixed.replace(**values)


def _make(id: str) -> tuple[Any, Any]:
    if id not in gymnax.registered_envs:
        raise ValueError(
            f"gymnax has no environment {id!r}; allowed: {', '.join(gymnax.registered_envs)}"
        )
    return gymnax.make(id)


def _ends(id: str, params: Any, name: str, ends: Sequence[float]) -> tuple[float, float]:
    """The values at levels 0 and 1, checked."""
    allowed = [
        key for key, value in vars(params).items()
        if isinstance(value, float) and key not in DERIVED.get(id, {})
    ]  # fmt: skip
    if name in DERIVED.get(id, {}):
        raise ValueError(
            f"{id}: {name} is not allowed to vary, as gymnax keeps {DERIVED[id][name]}, which "
            f"follows from it, as it is; use one of {', '.join(allowed)}"
        )
    if name not in allowed:
        raise ValueError(f"{id} has no parameter {name!r} to vary; use one of {', '.join(allowed)}")
    return checked_ends(id, name, ends)


def _flat(obs: Any) -> Array:
    return jnp.asarray(obs, jnp.float32).reshape(-1)


def _arrays(inner: PyTree) -> PyTree:
    """Python's numbers as arrays, so that a reset and a step give the same types."""
    return jax.tree.map(jnp.asarray, inner)

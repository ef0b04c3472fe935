"""An environment and a technique in one file: a boat in a channel, against a current.

    python experiments/matrix.py --plugin experiments/examples/boat.py --env boat --algo ppo \
        --technique baseline dr dr-edge
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs_jax.base import Environment, check_levels
from jaxgen import (
    EnvironmentCard,
    Setup,
    TaskCard,
    Technique,
    Title,
    preset,
    register_environment,
    register_technique,
)
from jaxgen.types import Array, Discrete, EnvSpec, Numbers

STEPS = 100


class Boat(NamedTuple):
    """State of an episode, arrays ``[*S]``."""

    side: Array
    speed: Array
    time: Array


class Channel(Environment):
    """Steer left, straight on or right; every step between the banks, at -1 and 1, earns 1."""

    spec = EnvSpec("boat", Numbers(low=(-1, -2), high=(1, 2)), Discrete(3), STEPS)
    reset_words = 1

    def reset_from(self, words: Array, params: Array) -> tuple[Array, Boat]:
        """Start at rest and near the middle; ``params`` is the current."""
        side = (words[..., 0] >> 8).astype(jnp.float32) * 2.0**-24 - 0.5
        boat = Boat(side, jnp.zeros_like(side), jnp.zeros_like(side, jnp.int32))
        return jnp.stack([boat.side, boat.speed], -1), boat

    def advance(
        self, state: Boat, action: Array, params: Array
    ) -> tuple[Array, Boat, Array, Array, Array]:
        """Step: rudder and current change the speed, and the speed the side."""
        speed = state.speed + 0.1 * (action - 1 + params)
        boat = Boat(state.side + 0.1 * speed, speed, state.time + 1)
        obs = jnp.stack([boat.side, boat.speed], -1)
        return obs, boat, jnp.ones_like(speed), jnp.abs(boat.side) > 1, boat.time >= STEPS


class BoatTask:
    """The current is 0 at level 0, and at level 1 eight tenths of what the rudder can do."""

    spec = Channel.spec
    refresh_steps = None
    environment = Channel()

    def training_params(self, key: Array, levels: Array) -> Array:
        """Currents of the training levels ``[V]``."""
        return 0.8 * check_levels(levels)

    def evaluation(self, key: Array, levels: Array, num_episodes: int) -> tuple[Array, Array]:
        """Currents ``[K]`` and words ``[K, E, 1]``: episode e starts alike at every level."""
        words = jax.random.bits(key, (num_episodes, Channel.reset_words), "uint32")
        return 0.8 * check_levels(levels), jnp.broadcast_to(words, (len(levels), *words.shape))

    def ceiling(self, params: Array, words: Array) -> Array:
        """The best return of each episode, ``[K, E]``: the rudder is stronger at every level."""
        return jnp.full(words.shape[:-1], STEPS, jnp.float32)

    def fingerprints(self, params: Array) -> None:
        """Nothing is generated that training and evaluation could share."""


register_environment(EnvironmentCard(
    name="boat", title=Title("Boat", "the boat"), task=TaskCard(make="boat:BoatTask"),
    setups={"ppo": Setup(preset("ppo", "cartpole"))},
))  # fmt: skip
register_technique("dr-edge", Technique(levels=(0.0, 0.5, 0.5)))

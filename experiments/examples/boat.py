"""An environment with discrete actions and a technique: a boat in a channel, against a current."""

from collections import namedtuple

import jax.numpy as jnp

import jaxgen
from envs_jax.base import Environment, ParameterTask, check_levels
from jaxgen.types import Discrete, EnvSpec, Numbers

Boat = namedtuple("Boat", "side speed time")


class Channel(Environment):
    """Steer left, straight on or right; each of 100 steps between the banks earns 1."""

    spec = EnvSpec("boat", Numbers((-1, -2), (1, 2)), Discrete(3), max_episode_steps=100)
    reset_words = 1

    def reset_from(self, words, params):
        side = (words[..., 0] >> 8) * 2.0**-24 - 0.5
        return jnp.stack([side, 0 * side], -1), Boat(side, 0 * side, jnp.int32(0 * side))

    def advance(self, boat, action, current):
        speed = boat.speed + 0.1 * (action - 1 + current)
        boat = Boat(boat.side + 0.1 * speed, speed, boat.time + 1)
        obs = jnp.stack([boat.side, boat.speed], -1)
        return obs, boat, jnp.ones_like(speed), abs(boat.side) > 1, boat.time >= 100


def make_task():
    return ParameterTask(Channel(), lambda level: 0.8 * check_levels(level), ceiling=100)


setup = jaxgen.Setup(jaxgen.preset("ppo", "cartpole"))
task = jaxgen.TaskCard(make="boat:make_task")
jaxgen.register_environment(jaxgen.EnvironmentCard(name="boat", task=task, setups={"ppo": setup}))
jaxgen.register_technique("dr-edge", jaxgen.Technique(levels=(0.0, 0.5, 0.5)))

"""An environment with continuous actions: the boat of boat.py, whose rudder has any angle."""

from boat import Channel

import jaxgen
from envs_jax.base import ParameterTask, check_levels
from jaxgen.types import Box, EnvSpec, Numbers


class Tug(Channel):
    """The rudder is a number in [0, 2]; 1 is straight on."""

    spec = EnvSpec("tug", Numbers((-1, -2), (1, 2)), Box((0.0,), (2.0,)), max_episode_steps=100)

    def advance(self, boat, action, current):
        return super().advance(boat, action[..., 0], current)


def make_task():
    return ParameterTask(Tug(), lambda level: 0.8 * check_levels(level), ceiling=100)


config = jaxgen.preset("es", "cartpole")
setup = jaxgen.Setup(jaxgen.replace(config, {"num_steps": 100, "total_steps": 200_000}))
task = jaxgen.TaskCard(make="tug:make_task")
jaxgen.register_environment(jaxgen.EnvironmentCard(name="tug", task=task, setups={"es": setup}))

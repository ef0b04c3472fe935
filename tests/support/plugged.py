"""An algorithm, two environments and a technique as a plug-in brings them: a card or a line each.

One environment has discrete actions, the other one a box.

As a plug-in of pytest (``-p plugged``) it registers them before tests are collected, so that they
inherit the contract tests.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxgen.study.cards import register_algorithm, register_environment
from jaxgen.study.cards.base import (
    AlgorithmCard,
    EnvironmentCard,
    Facts,
    Listing,
    Setup,
    TaskCard,
    Title,
)
from jaxgen.study.config import ESConfig, PPOConfig
from jaxgen.techniques import COMPONENTS, Technique


@dataclass(frozen=True, kw_only=True)
class TwinConfig(PPOConfig):
    """PPO by another name, with a number of its own."""

    algorithm: ClassVar[str] = "twin"

    boldness: float = 1.0
    """Multiplies the learning rate."""


def make_twin(config: TwinConfig, technique: Technique, spec: Any) -> Any:
    """Build PPO with another learning rate."""
    from jaxgen.algorithms.ppo import make_ppo

    rate = config.learning_rate * config.boldness
    return make_ppo(replace(config, learning_rate=rate), technique, spec)


def make_slope(slope: float) -> Any:
    """CartPole by another name, which only knows one slope."""
    from envs_jax.base import ParameterTask
    from envs_jax.cartpole import MAX_STEPS, CartPole, cartpole_params

    assert slope == 0.0

    class Slope(CartPole):
        spec = replace(CartPole.spec, name="slope")

    return ParameterTask(Slope(), cartpole_params, MAX_STEPS)


def describe_slope(task: Any, level: float, num_episodes: int) -> str:
    """A text with all that it is given."""
    return f"{task.spec.name} {level:g} x {num_episodes}"


TINY = TwinConfig(
    total_steps=24 * 400, learning_rate=5e-3, hidden=(16,), num_envs=2, num_steps=4, num_epochs=2,
    num_minibatches=2,
)
TWIN = AlgorithmCard(
    config=TwinConfig,
    make="plugged:make_twin",
    facts=Facts(value_loss="value_loss"),
    variants={"twin-bold": {"boldness": 2.0}},
    setups={"cartpole": Setup(TINY), "slope": Setup(TINY, seconds=1.0)},
)
SLOPE = EnvironmentCard(
    name="slope",
    title=Title("Slope", "the slope"),
    listing=Listing.DEFAULT,
    task=TaskCard(
        make="plugged:make_slope", fixed={"slope": 0.0}, describe="plugged:describe_slope"
    ),
)
BOX = EnvironmentCard(
    name="box",
    title=Title("Box", "the box"),
    listing=Listing.DEFAULT,
    task=TaskCard(make="box_envs:BoxTask"),
    setups={
        "es": Setup(ESConfig(
            total_steps=24 * 50 * 40, learning_rate=0.05, hidden=(8,), num_envs=50, num_steps=4,
            population=50, sigma=0.1,
        )),
    },
)  # fmt: skip


def register() -> None:
    """Make all of them known."""
    register_algorithm(TWIN)
    register_environment(SLOPE)
    register_environment(BOX)
    COMPONENTS["dr-edge"] = Technique(levels=(0.0, 0.5, 0.5))


def pytest_configure() -> None:
    """Register before tests are collected."""
    register()

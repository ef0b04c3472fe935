"""What environments are called where people read."""

from typing import NamedTuple


class Title(NamedTuple):
    """The name of an environment for a reader."""

    heading: str
    """On its own, as over a section, a table or a figure."""
    phrase: str
    """Inside of a sentence, after "on"."""


TITLES = {
    "cartpole": Title("CartPole", "CartPole"),
    "minigrid": Title("Grid", "the grid"),
    "starpilot": Title("Starpilot", "Starpilot"),
}
"""By registry name."""


def heading(environment: str) -> str:
    """An environment's name on its own; one without a title keeps its registry name."""
    return TITLES[environment].heading if environment in TITLES else environment


def phrase(environment: str) -> str:
    """An environment's name inside of a sentence, as in "PPO on the grid"."""
    return TITLES[environment].phrase if environment in TITLES else environment

"""Environments and algorithms by registry name.

The algorithms of `jaxgen` are registered here; importing ``envs_jax`` registers its environments.
Tests and plug-ins register theirs at run time; a card replaces another one of the same name.
"""

from jaxgen.study.cards import dqn, es, ppo
from jaxgen.study.cards.base import AlgorithmCard, EnvironmentCard, Listing
from jaxgen.system.errors import BadInput

ENVIRONMENT_CARDS: dict[str, EnvironmentCard] = {}
"""Cards by registry name, in the order in which tables show them."""
ALGORITHM_CARDS: dict[str, AlgorithmCard] = {}
"""Cards by registry name, in the order in which tables show them."""


def register_environment(card: EnvironmentCard) -> None:
    """Make an environment known by its name."""
    ENVIRONMENT_CARDS[card.name] = card


def register_algorithm(card: AlgorithmCard) -> None:
    """Make an algorithm known by its name, and its variants by theirs."""
    ALGORITHM_CARDS[card.name] = card


for _card in (ppo.CARD, dqn.CARD, es.CARD):
    register_algorithm(_card)


def environment_names(*listings: Listing) -> list[str]:
    """Registry names of the environments that are listed so; of all without arguments."""
    return [
        card.name for card in ENVIRONMENT_CARDS.values() if not listings or card.listing in listings
    ]


def environment_card(name: str) -> EnvironmentCard:
    """The card of an environment; ValueError names what is allowed."""
    if name in ENVIRONMENT_CARDS:
        return ENVIRONMENT_CARDS[name]
    if not ENVIRONMENT_CARDS:
        raise BadInput(
            f"environment {name!r} is unknown, as all are: import envs_jax, which registers them"
        )
    usual = ", ".join(environment_names(Listing.DEFAULT, Listing.ON_REQUEST))
    others = ", ".join(environment_names(Listing.BY_NAME))
    raise BadInput(
        f"environment {name!r} is unknown; use one of {usual}"
        + (f", or of the others {others}" if others else "")
    )


def figure_title(environment: str) -> str:
    """The name of an environment in figures; its name where it is not registered."""
    card = ENVIRONMENT_CARDS.get(environment)
    return card.title.figure if card else environment


def algorithm_title(name: str) -> str:
    """An algorithm's name in figures and sentences; what follows an @ or a colon stays as it is."""
    length = min(len(part) for part in (name.partition(sign)[0] for sign in "@:"))
    return name[:length].upper() + name[length:]


def sentence_title(environment: str) -> str:
    """The name of an environment in sentences; its name where it is not registered."""
    card = ENVIRONMENT_CARDS.get(environment)
    return card.title.sentence if card else environment

"""Environments and algorithms by registry name.

The algorithms of `jaxgen` are registered here; importing ``envs_jax`` registers its environments.
Plug-ins register theirs at run time.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from jaxgen.study.cards import dqn, es, grpo, ppo, sac, td3
from jaxgen.study.cards.base import AlgorithmCard, EnvironmentCard, Listing
from jaxgen.system.errors import BadInput
from jaxgen.techniques import check_new

ENVIRONMENT_CARDS: dict[str, EnvironmentCard] = {}
"""Cards by registry name, in the order in which tables show them."""


class Family(NamedTuple):
    """Environments of a library, whose cards are made when they are first asked for."""

    make: Callable[[str], EnvironmentCard]
    """Registry name -> card."""
    word: str
    """Begins the names that a person writes: ``gymnax:``."""
    named: Callable[[str], str]
    """The library's name, behind that word -> registry name."""


FAMILIES: dict[str, Family] = {}
"""Families by the prefix of their registry names."""
ALGORITHM_CARDS: dict[str, AlgorithmCard] = {}
"""Cards by registry name, in the order in which tables show them."""


def register_environment(card: EnvironmentCard, replace: bool = False) -> None:
    """Make an environment known by its name.

    Args:
      card: the environment.
      replace: take the place of another one of the same name.

    Raises:
      BadInput: the name cannot be one, or another environment has it.
    """
    if not replace:
        check_new("environment", card.name, card, ENVIRONMENT_CARDS)
    ENVIRONMENT_CARDS[card.name] = card


def register_family(prefix: str, family: Family) -> None:
    """Make environments known whose registry names begin so, each when it is first asked for."""
    FAMILIES[prefix] = family


def register_algorithm(card: AlgorithmCard, replace: bool = False) -> None:
    """Make an algorithm known by its name, and its variants by theirs.

    Arguments and errors as of `register_environment`.
    """
    if not replace:
        others = {
            name: other for other in ALGORITHM_CARDS.values()
            for name in (other.name, *other.variants)
        }  # fmt: skip
        for name in (card.name, *card.variants):
            check_new("algorithm", name, card, others)
    ALGORITHM_CARDS[card.name] = card


for _card in (ppo.CARD, dqn.CARD, es.CARD, sac.CARD, td3.CARD, grpo.CARD):
    register_algorithm(_card)


def environment_names(*listings: Listing) -> list[str]:
    """Registry names of the environments that are listed so; of all without arguments."""
    return [
        card.name for card in ENVIRONMENT_CARDS.values() if not listings or card.listing in listings
    ]


def registry_name(name: str) -> str:
    """The registry name that an alias or a family's word stands for; any other name as it is."""
    for family in FAMILIES.values():
        if name.startswith(family.word):
            return family.named(name.removeprefix(family.word))
    return next((card.name for card in ENVIRONMENT_CARDS.values() if name in card.aliases), name)


def environment_card(name: str) -> EnvironmentCard:
    """The card of an environment, or of an alias; ValueError names what is allowed."""
    name = registry_name(name)
    for prefix, family in FAMILIES.items():
        if name.startswith(prefix) and name not in ENVIRONMENT_CARDS:
            register_environment(family.make(name))
    if name in ENVIRONMENT_CARDS:
        return ENVIRONMENT_CARDS[name]
    if not ENVIRONMENT_CARDS:
        raise BadInput(
            f"environment {name!r} is unknown, as all are: import envs_jax, which registers them"
        )
    usual = ", ".join(environment_names(Listing.DEFAULT, Listing.ON_REQUEST))
    others = ", ".join(environment_names(Listing.BY_NAME))
    raise BadInput(
        f"environment {name!r} is unknown{_hint(name)}; use one of {usual}"
        + (f", or of the others {others}" if others else "")
        + "; one of your own is known once its plug-in is loaded (--plugin FILE.py)"
    )


def _hint(name: str) -> str:
    """Words for what a person may have meant."""
    known = [alias for card in ENVIRONMENT_CARDS.values() for alias in (card.name, *card.aliases)]
    if close := get_close_matches(name, known, 1, cutoff=0.85):
        return f", perhaps {close[0]}"
    if FAMILIES and re.fullmatch(r"[^ :]+-v[0-9]+", name):
        return f", perhaps {' or '.join(family.word + name for family in FAMILIES.values())}"
    return ""


def figure_title(environment: str) -> str:
    """The name of an environment in figures; its name where it is not registered."""
    card = ENVIRONMENT_CARDS.get(environment)
    return card and card.title.figure or environment


def algorithm_title(name: str) -> str:
    """An algorithm's name in figures and sentences; what follows an @ or a colon stays as it is."""
    length = min(len(part) for part in (name.partition(sign)[0] for sign in "@:"))
    return name[:length].upper() + name[length:]


def place_folder(algorithm: str, environment: str) -> str:
    """The specified name of a folder, ``<ALGO>_<ENV>``, e.g. ``SAC_HalfCheetah``."""
    return f"{algorithm.upper()}_{figure_title(environment)}".replace(" ", "-")


def sentence_title(environment: str) -> str:
    """The name of an environment in sentences; its name where it is not registered."""
    card = ENVIRONMENT_CARDS.get(environment)
    return card and card.title.sentence or environment

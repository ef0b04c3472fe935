"""Algorithms, their techniques and their configurations by name: views of the cards."""

from collections.abc import Iterable

from jaxgen.study.cards import ALGORITHM_CARDS, ENVIRONMENT_CARDS
from jaxgen.study.cards.base import AlgorithmCard, Observed, Setup
from jaxgen.study.config import Config, replace
from jaxgen.system.errors import BadInput
from jaxgen.techniques import COMPONENTS, canonical_name, make_technique


def algorithm_names() -> tuple[str, ...]:
    """Names that ``--algo`` takes: algorithms, then presets with names of their own."""
    variants = (name for card in ALGORITHM_CARDS.values() for name in card.variants)
    return (*ALGORITHM_CARDS, *variants)


def algorithm_card(name: str) -> AlgorithmCard:
    """The card of an algorithm or of a preset's algorithm; ValueError names what is allowed."""
    if name in ALGORITHM_CARDS:
        return ALGORITHM_CARDS[name]
    for card in ALGORITHM_CARDS.values():
        if name in card.variants:
            return card
    raise BadInput(f"unknown algorithm {name!r}; allowed: {', '.join(algorithm_names())}")


def base_algorithm(name: str) -> str:
    """The algorithm that a name stands for; ValueError names what is allowed."""
    return algorithm_card(name).name


def setups_of(algorithm: str) -> dict[str, Setup]:
    """Environment -> setup of an algorithm, by its own name, wherever it has one."""
    card = ALGORITHM_CARDS.get(algorithm)
    setups = card.setups if card else {}
    for environment in ENVIRONMENT_CARDS.values():
        if algorithm in environment.setups:
            setups = {**setups, environment.name: environment.setups[algorithm]}
    order = [*ENVIRONMENT_CARDS, *setups]
    return {name: setups[name] for name in dict.fromkeys(order) if name in setups}


def preset(algorithm: str, environment: str) -> Config:
    """The configuration of an algorithm (or named preset) on an environment."""
    card = algorithm_card(algorithm)
    setups = setups_of(card.name)
    if environment not in setups:
        able = [name for name in ALGORITHM_CARDS if environment in setups_of(name)]
        if able:
            raise BadInput(
                f"{algorithm} has no configuration for environment {environment!r}, whose "
                f"actions or observations are not for it; use one of {', '.join(able)}"
            )
        raise BadInput(
            f"{algorithm} has no configuration for environment {environment!r}; "
            f"allowed: {', '.join(setups) or 'none, as envs_jax is not imported'}; one of your own "
            f"gets it from its card: setups={{{card.name!r}: Setup({card.config.__name__}(...))}}"
        )
    config, overrides = setups[environment].config, dict(card.variants.get(algorithm, {}))
    if "network" in overrides and config.network == "mlp":
        images = [name for name, setup in setups.items() if setup.config.network != "mlp"]
        raise BadInput(
            f"{algorithm} reads images, which {environment} does not show; allowed: "
            f"{', '.join(images)}"
        )
    budget = overrides.get("total_steps")
    if isinstance(budget, str):
        if environment not in setups_of(budget):
            raise BadInput(
                f"{algorithm} has the budget of {budget}, which has no configuration for "
                f"environment {environment!r}; use {card.name}"
            )
        overrides["total_steps"] = preset(budget, environment).total_steps
    return replace(config, overrides)


def seconds_per_million(algorithm: str, environment: str) -> float:
    """Seconds of training per million env steps of a lane, on two CPU cores."""
    setup = setups_of(base_algorithm(algorithm))[environment]
    return setup.variant_seconds.get(algorithm, setup.seconds)


def observes_codes(environment: str) -> bool:
    """Whether an environment is known to show integers without an order."""
    card = ENVIRONMENT_CARDS.get(environment)
    return card is not None and card.task.observed is Observed.CODES


def counting_populations(algorithms: Iterable[str]) -> list[str]:
    """The algorithms, each once, whose budget is that of a whole population of policies."""
    cards = [ALGORITHM_CARDS.get(name) for name in dict.fromkeys(algorithms)]
    return [card.name for card in cards if card and card.facts.counts_population]


def is_defined(technique: str, algorithm: str) -> bool:
    """Whether an algorithm (or named preset) has a technique, as itself or as an alias."""
    return algorithm_card(algorithm).techniques.has(make_technique(technique))


def check_defined(technique: str, algorithm: str) -> None:
    """Raise ValueError, which names what there is, unless `is_defined`."""
    if not is_defined(technique, algorithm):
        allowed = ", ".join(each for each in COMPONENTS if is_defined(each, algorithm))
        raise BadInput(
            f"technique {technique!r} is not defined for {base_algorithm(algorithm)}; "
            f"allowed: {allowed}"
        )


def trained_name(technique: str, algorithm: str) -> str:
    """The technique that is trained where this one is asked for: aliases are other ones."""
    name = canonical_name(technique)
    return algorithm_card(algorithm).techniques.aliases.get(name, name)

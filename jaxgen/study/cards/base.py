"""Cards: all that the rest of the system may know of an environment or an algorithm.

A card is data and short functions without JAX, so that a study can be planned, listed or refused
at once. Code that needs JAX is named as ``"module:name"`` and imported when it is first used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from typing import Any, NamedTuple

from jaxgen.study.config import Config
from jaxgen.techniques import Rule, Technique

Overrides = Mapping[str, Any]
"""Fields of a configuration by name."""
NO_LIMIT = 2**31 - 1


class Title(NamedTuple):
    """Names of an environment; its registry name where they are empty."""

    figure: str = ""
    """A short name for figures and tables."""
    sentence: str = ""
    """The name within a sentence, after "on"."""


class Listing(Enum):
    """Occasions on which a study takes an environment or an algorithm."""

    DEFAULT = "default"
    """Taken where none is named: an environment then needs nothing but JAX, and minutes."""
    ON_REQUEST = "on request"
    """Taken with ``--all``, and by name."""
    BY_NAME = "by name"
    """Taken by name alone."""


class Observed(Enum):
    """Contents of an observation."""

    NUMBERS = "numbers"
    CODES = "codes"
    """Integers without an order, such as the kinds of a grid's cells."""
    IMAGES = "images"


class Setup(NamedTuple):
    """An algorithm on an environment."""

    config: Config
    """The preset: the specified values where there are any."""
    seconds: float = 10.0
    """Seconds of training per million env steps of a lane, on two CPU cores."""
    variant_seconds: Mapping[str, float] = {}
    """The same of named presets that take another time."""
    quick: Overrides = {}
    """Changes to the configuration, beside the budget, that cut a quick run to seconds."""


class Limits(NamedTuple):
    """Limits that an environment sets to an evaluation."""

    episodes: int = NO_LIMIT
    """Evaluation episodes per level, at most."""
    curve_episodes: int = NO_LIMIT
    """Episodes per point of a learning curve, at most."""
    quick_episodes: int = NO_LIMIT
    """Episodes of both kinds in a quick run, at most."""
    quick_seeds: int = NO_LIMIT
    """Seeds of a quick run that names none, at most."""
    min_s0: float | None = None
    """Least s(0) of a policy that learned; None: the usual one."""
    knows_ceiling: bool = True
    """Whether the ceiling is, at every level, the best return that can be had there; False: it is
    a fixed number."""
    can_probe: bool = True
    """Whether the agreement of gradients can be measured apart from training."""


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """How a task is made, and what can be told of it without making it."""

    make: str
    """``"module:name"`` of its constructor."""
    fixed: Overrides = field(default_factory=dict)
    """Arguments of the constructor that this name stands for."""
    options: Overrides = field(default_factory=dict)
    """Arguments of the constructor that are part of what is studied, and of the content hash."""
    quick: Overrides = field(default_factory=dict)
    """Changes to ``options`` that cut the work to seconds."""
    observed: Observed = Observed.NUMBERS
    describe: str | None = None
    """``"module:name"`` of a function (task, level, episodes) -> what is played at the level."""
    missing: Callable[[], str | None] = lambda: None
    """What to do where something must be installed before it can be played; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentCard:
    """An environment by its registry name."""

    name: str
    task: TaskCard
    aliases: tuple[str, ...] = ()
    """Other names that a person may write for it, such as that of another library."""
    title: Title = Title()
    setups: Mapping[str, Setup] = field(default_factory=dict)
    """Setups by the name of the algorithm."""
    limits: Limits = Limits()
    listing: Listing = Listing.BY_NAME


def combines_gradients(technique: Technique) -> bool:
    """Whether an algorithm with a gradient for each variation has a technique: all rules but
    that of pseudo-gradients."""
    return technique.rule is not Rule.APART


class Techniques(NamedTuple):
    """The techniques of an algorithm."""

    has: Callable[[Technique], bool] = combines_gradients
    aliases: Mapping[str, str] = {}
    """Names of techniques that are other ones by another name; never trained."""


def no_changes(config: Config) -> Overrides:
    """Nothing that a quick run changes beside the budget."""
    del config
    return {}


def learn_soon(config: Config) -> Overrides:
    """Let a quick run learn from a replay from its second iteration on."""
    return {"learning_starts": 2 * config.steps_per_iteration}


QUICK_ITERATIONS = 200
"""Iterations of a quick run that has as many updates as steps, which may be one in each."""


def learn_at_once(config: Config) -> Overrides:
    """Let a quick run of few steps an iteration learn from its second one on."""
    return {**learn_soon(config), "total_steps": QUICK_ITERATIONS * config.steps_per_iteration}


class Facts(NamedTuple):
    """Facts that results, reports and quick runs ask of an algorithm."""

    value_loss: str | None = None
    """The name of the loss of the values in a history; None: there is none."""
    independent_halves: bool = True
    """Whether the two halves of a probe's samples are drawn independently of each other."""
    counts_population: bool = False
    """Whether the budget is that of a whole population of policies."""
    quick: Callable[[Config], Overrides] = no_changes
    """Configuration -> what a quick run changes, before a budget larger than the preset's is cut
    to that."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmCard:
    """An algorithm; its registry name is its configuration's ``algorithm``."""

    config: type[Config]
    make: str
    """``"module:name"`` of the constructor (config, technique, spec) -> Algorithm."""
    techniques: Techniques = Techniques()
    facts: Facts = Facts()
    variants: Mapping[str, Overrides] = field(default_factory=dict)
    """Presets with names of their own; a text as ``total_steps`` names whose budget it is."""
    setups: Mapping[str, Setup] = field(default_factory=dict)
    """Setups by environment, where the environment's card has none of this algorithm."""
    listing: Listing = Listing.DEFAULT

    @property
    def name(self) -> str:
        """Registry name."""
        return self.config.algorithm


def resolve(reference: str) -> Any:
    """Import what ``"module:name"`` refers to."""
    module, name = reference.split(":")
    return getattr(import_module(module), name)

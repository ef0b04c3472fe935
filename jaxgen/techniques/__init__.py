"""Training techniques by name: numbers and a rule, composable with ``+`` in any order.

Nothing here imports JAX; `jaxgen.algorithms.gradients` applies a technique.
"""

import dataclasses
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from typing import Any, NamedTuple

from jaxgen.system.errors import BadInput
from jaxgen.system.values import as_python, number

MULTI_LEVELS = (0.0, 0.25, 0.5)
"""Variation levels that gar and dr arms train on; evaluation goes beyond them."""


class Rule(Enum):
    """How the gradients ``g_k`` of K variations become one; ``g`` is their mean.

    Unlike the numbers of a technique a rule is static: each is a compiled program of its own.
    """

    WEIGHTS = "weights"
    """Weights by the agreement with ``g``, as `Technique` says."""
    SHUFFLE = "gar-shuffle"
    """``WEIGHTS``, but samples are dealt out anew, so that each ``g_k`` is of all variations
    alike (to one sample, where a batch is no multiple of K): a placebo, since nothing is left for
    agreement to select."""
    OTHERS = "gar-n"
    """``sum_k m_k g_k`` with ``m_k = max(0, cos(g_k, sum_(j != k) g_j))``, rescaled to ``|g|``: a
    gradient does not vouch for itself, and the step has dr's size."""
    PCGRAD = "pcgrad"
    """Each gradient loses its component along every other one that it conflicts with (Yu et al.
    2020, "Gradient surgery for multi-task learning"), averaged over the orders of the others
    instead of drawing one."""
    APART = "es-gar"
    """``WEIGHTS`` for ES, on a pseudo-gradient of each variation instead of one for all."""
    AND_MASK = "and-mask"
    """``g`` where all signs agree, 0 elsewhere (Parascandolo et al. 2020, "Learning explanations
    that are hard to vary", with an agreement threshold of 1)."""


@dataclass(frozen=True)
class Technique:
    """An arm as data: techniques that differ in numbers alone share one compiled program.

    The weight of variation k's gradient is, with ``m_k = max(0, cos(g_k, g))``,
    ``(1 - agreement) / K + agreement * ((1 - uniform) * m_k + uniform * mean(m))``.
    """

    levels: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Training levels, one per variation."""
    agreement: float = 0.0
    """0: the mean of the per-variation gradients; 1: weights by their agreement."""
    uniform: float = 0.0
    """1: every variation gets the mean weight, which keeps gar's scale without its selection."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    rule: Rule = Rule.WEIGHTS
    augment: str = "none"
    """What changes observations where gradients are taken; see `jaxgen.algorithms.augmentations`.
    """
    augment_share: float = 1.0
    """Share of the observations that are augmented."""

    @property
    def compares_variations(self) -> bool:
        """Whether the gradients that agree or not are those of different variations."""
        return len(set(self.levels)) > 1 and self.rule is not Rule.SHUFFLE

    def over(self, num_variations: int) -> "Technique":
        """The same on so many variations; BadInput where levels that differ are not as many."""
        if len(set(self.levels)) == 1:
            return dataclasses.replace(self, levels=self.levels[:1] * num_variations)
        if len(self.levels) != num_variations:
            raise BadInput(
                f"num_variations = {num_variations} is not allowed with a technique that trains on "
                f"the levels {', '.join(f'{level:g}' for level in self.levels)}; use "
                f"{len(self.levels)}"
            )
        return self


REGISTRY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,63}")
"""Names of environments, algorithms and components: parts of the names of files."""
STATIC_FIELDS = ("rule", "augment")
"""Fields of a technique that decide which program is compiled; the others are numbers."""
NUMBERS = {
    "agreement": 1.0, "uniform": 1.0, "augment_share": 1.0, "weight_decay": sys.float_info.max,
}  # fmt: skip
"""The largest value of each number; the smallest is 0."""

COMPONENTS: dict[str, Technique] = {
    "baseline": Technique(),
    "reg": Technique(weight_decay=1e-4),
    "dr": Technique(levels=MULTI_LEVELS),
    "gar": Technique(levels=MULTI_LEVELS, agreement=1.0),
    "dr-scaled": Technique(levels=MULTI_LEVELS, agreement=1.0, uniform=1.0),
    "gar-shuffle": Technique(levels=MULTI_LEVELS, agreement=1.0, rule=Rule.SHUFFLE),
    "gar-n": Technique(levels=MULTI_LEVELS, rule=Rule.OTHERS),
    "pcgrad": Technique(levels=MULTI_LEVELS, rule=Rule.PCGRAD),
    "and-mask": Technique(levels=MULTI_LEVELS, rule=Rule.AND_MASK),
    "es-gar": Technique(levels=MULTI_LEVELS, agreement=1.0, rule=Rule.APART),
    # Specialists: what an arm can be compared with where nobody knows the best return.
    "at25": Technique(levels=(0.25,) * 3),
    "at50": Technique(levels=(0.5,) * 3),
    "at75": Technique(levels=(0.75,) * 3),
    "at100": Technique(levels=(1.0,) * 3),
}
"""What can be composed: each field that differs from the baseline's is taken over."""


class Studied(NamedTuple):
    """The place and look of a technique in the generalisation study."""

    suites: tuple[str, ...]
    color: str
    marker: str
    line: str
    """Solid for plain techniques, dashed with reg, dotted and dashdot for offered ones."""


_EVERY = ("controls", "specified", "rigorous")
_CONTROL = ("controls", "rigorous")
_OFFERED = ("rigorous",)
STUDIED: dict[str, Studied] = {
    "baseline": Studied(_EVERY, "black", "o", "solid"),
    "reg": Studied(_EVERY, "grey", "v", "dashed"),
    "dr": Studied(_CONTROL, "orange", "s", "solid"),
    "dr+reg": Studied(_CONTROL, "red", "D", "dashed"),
    "gar": Studied(_EVERY, "blue", "^", "solid"),
    "gar+reg": Studied(_EVERY, "sky", "P", "dashed"),
    "dr-scaled": Studied(_OFFERED, "orange", "p", "dotted"),
    "gar-n": Studied(_OFFERED, "green", "X", "dotted"),
    "gar-shuffle": Studied(_OFFERED, "grey", "h", "dotted"),
    "es-gar": Studied(_OFFERED, "purple", "*", "dashdot"),
    "pcgrad": Studied(_OFFERED, "green", "<", "dashdot"),
    "and-mask": Studied(_OFFERED, "purple", ">", "dotted"),
}
"""Techniques in the order in which tables show them; any other one is drawn in a spare style."""

SUITES: dict[str, tuple[str, ...]] = {
    suite: tuple(name for name, studied in STUDIED.items() if suite in studied.suites)
    for suite in _EVERY
}
"""The techniques of a study by the suite's name; each algorithm takes those that it has."""


def canonical_name(name: str) -> str:
    """Order the components of a composed name: ``reg+gar`` becomes ``gar+reg``.

    Raises:
      BadInput: an unknown or repeated component, baseline beside another one, two that change the
        same field, or one with a number that is not allowed.
    """
    parts = name.split("+")
    for part in parts:
        if part not in COMPONENTS:
            raise BadInput(
                f"unknown technique {part!r} in {name!r}; allowed: {', '.join(COMPONENTS)}, "
                "joined with + (as in gar+reg)"
            )
    if len(set(parts)) < len(parts):
        raise BadInput(f"technique {name!r} names a component twice; name each once")
    if len(parts) > 1 and "baseline" in parts:
        raise BadInput(f"technique {name!r} composes baseline, which adds nothing; leave it out")
    for part in parts:
        _check_numbers(part)
    for one, other in combinations(parts, 2):
        both = [key for key in _changes(COMPONENTS[one]) if key in _changes(COMPONENTS[other])]
        if both:
            raise BadInput(
                f"technique {name!r} holds both {one} and {other}, which exclude each other, as "
                f"both change {', '.join(both)}; name one of the two"
            )
    return "+".join(sorted(parts, key=lambda part: (part == "reg", part)))


def register_technique(name: str, technique: Technique, replace: bool = False) -> None:
    """Make a component known, to be used alone or composed with others.

    Args:
      name: the component's.
      technique: what it changes of the baseline.
      replace: take the place of another one of the same name.

    Raises:
      BadInput: the name cannot be one, or another component has it.
    """
    if not replace:
        check_new("technique", name, technique, COMPONENTS)
    if "+" in name:
        raise BadInput(f"technique {name!r} is not allowed as a name: + joins two of them; use -")
    COMPONENTS[name] = technique


def check_new(kind: str, name: str, entry: Any, known: Mapping[str, Any]) -> None:
    """Raise BadInput unless ``entry`` can be registered under a name.

    Args:
      kind: of what is registered, in a word.
      name: the name, which becomes a part of the names of files.
      entry: what would be registered; the same again is allowed.
      known: what is registered, by name.
    """
    if not isinstance(name, str) or not REGISTRY_NAME.fullmatch(name):
        raise BadInput(
            f"{kind} {name!r} is not allowed as a name; use letters, digits, '-', '+' and '_', "
            "beginning with a letter"
        )
    if name in known and known[name] != entry:
        raise BadInput(
            f"{kind} {name!r} is registered already; give yours another name, or replace=True to "
            "take its place"
        )


def make_technique(name: str) -> Technique:
    """Compose a technique from its name; see `canonical_name` for errors."""
    technique = Technique()
    for part in canonical_name(name).split("+"):
        technique = dataclasses.replace(technique, **_changes(COMPONENTS[part]))
    for level in technique.levels:
        if not 0 <= level <= 1:
            raise BadInput(f"technique {name!r} trains on level {level:g}; a level lies in [0, 1]")
    return technique


def to_dict(technique: Technique) -> dict[str, Any]:
    """The technique as JSON-ready values; augmentation is named only where there is some."""
    values = dataclasses.asdict(technique)
    values |= {"levels": list(technique.levels), "rule": technique.rule.value}
    if technique.augment == "none":
        # Hashes are those from before there were augmentations.
        del values["augment"], values["augment_share"]
    return values


def _changes(technique: Technique) -> dict[str, Any]:
    """Fields that differ from the baseline's."""
    values = {name: as_python(value) for name, value in vars(technique).items()}
    values["levels"] = tuple(values["levels"])
    defaults = vars(Technique())
    return {name: value for name, value in values.items() if value != defaults[name]}


def _check_numbers(part: str) -> None:
    """Raise BadInput where a component has a number that is not allowed."""
    for name, most in NUMBERS.items():
        value = getattr(COMPONENTS[part], name)
        single = number(value)
        if single is None or not 0 <= single <= most:
            allowed = "a share in [0, 1]" if most == 1 else "a finite number, 0 or larger"
            raise BadInput(f"technique {part!r}: {name} = {value!r} is not allowed; use {allowed}")

"""Training techniques by name: plain numbers, composable with ``+`` in any order.

Nothing here imports JAX; `jaxgen.techniques.base` applies a technique.
"""

from typing import NamedTuple

MULTI_LEVELS = (0.0, 0.25, 0.5)
"""Variation levels that gar and dr arms train on; evaluation goes beyond them."""


class Technique(NamedTuple):
    """An arm as data, so that all arms of an algorithm are one compiled program.

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


COMPONENTS: dict[str, Technique] = {
    "baseline": Technique(),
    "reg": Technique(weight_decay=1e-4),
    "dr": Technique(levels=MULTI_LEVELS),
    "gar": Technique(levels=MULTI_LEVELS, agreement=1.0),
}
"""What can be composed: each field that differs from the baseline's is taken over."""

SUITES: dict[str, tuple[str, ...]] = {
    "controls": ("baseline", "reg", "dr", "dr+reg", "gar", "gar+reg"),
    "specified": ("baseline", "reg", "gar", "gar+reg"),
}
"""The arms of a study by the suite's name."""

ES_ALIASES = {"gar": "baseline", "gar+reg": "reg"}
"""OpenAI-ES has no gradients, so its gar arms are other arms by another name."""


def canonical_name(name: str) -> str:
    """Order the components of a composed name: ``reg+gar`` becomes ``gar+reg``.

    Raises:
      ValueError: an unknown or repeated component, or baseline or dr beside gar.
    """
    parts = name.split("+")
    for part in parts:
        if part not in COMPONENTS:
            raise ValueError(
                f"unknown technique {part!r} in {name!r}; allowed: {', '.join(COMPONENTS)}, "
                "joined with + (as in gar+reg)"
            )
    if len(set(parts)) < len(parts):
        raise ValueError(f"technique {name!r} names a component twice; name each once")
    if len(parts) > 1 and "baseline" in parts:
        raise ValueError(f"technique {name!r} composes baseline, which adds nothing; leave it out")
    if {"dr", "gar"} <= set(parts):
        raise ValueError(f"technique {name!r} holds both dr and gar, which differ in one choice")
    return "+".join(sorted(parts))


def make_technique(name: str) -> Technique:
    """Compose a technique from its name; see `canonical_name` for errors."""
    technique, default = Technique(), Technique()
    for part in canonical_name(name).split("+"):
        changes = {
            field: value
            for field, value in COMPONENTS[part]._asdict().items()
            if value != getattr(default, field)
        }
        technique = technique._replace(**changes)
    return technique

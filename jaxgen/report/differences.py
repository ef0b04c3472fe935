"""Differences between arms, paired by seed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.results.records import Cell


class Difference(NamedTuple):
    """A difference between two arms, paired by seed."""

    label: str
    """Name, such as "gar - dr"."""
    meaning: str
    """Meaning of the difference."""
    values: dict[str, np.ndarray]
    """Score name -> differences [seeds]; empty where an arm is missing or an alias."""
    reason: str = ""
    """Why there are no values."""


def core_arms(suffix: str) -> tuple[str, str, str]:
    """The names of baseline, dr and gar with a suffix: "", or "+reg", whose baseline is reg."""
    base = suffix[1:] if suffix.startswith("+") else f"baseline{suffix}"
    return base, f"dr{suffix}", f"gar{suffix}"


def decompose(
    arms: Mapping[str, Cell], suffix: str = "", names: Sequence[str] = ("A_ood", "A")
) -> list[Difference]:
    """Split what an arm gains into the part of its data and the part of the agreement.

    gar - baseline = (dr - baseline) + (gar - dr), greedy, paired by the seeds that all arms
    share, so that the two parts add up exactly. Where they were run, the controls dr-scaled and
    gar-shuffle follow: a claim about the agreement needs gar to be better than those as well.

    Args:
        arms: technique -> cell, of one algorithm with its overrides, environment and setting.
        suffix: as `core_arms` takes it.
        names: scores to compare.
    """
    base, data, agreement = core_arms(suffix)
    controls = [
        (f"{name}{suffix}", meaning)
        for name, meaning in (
            ("dr-scaled", "agreement, at gar's size of step"),
            ("gar-shuffle", "agreement, over a placebo"),
        )
        if f"{name}{suffix}" in arms
    ]
    wanted = (base, data, agreement, *(name for name, _ in controls))
    usable = {t: arms[t] for t in wanted if t in arms and not arms[t].alias_of}
    shared = {
        name: sorted(set.intersection(*(set(cell.scores(name)) for cell in usable.values())))
        for name in names
        if usable
    }
    terms = (
        (agreement, base, "data and agreement"),
        (data, base, "data"),
        (agreement, data, "agreement"),
        *((agreement, name, meaning) for name, meaning in controls),
    )
    return [
        Difference(
            f"{first} - {second}",
            meaning,
            {
                name: np.array([_paired(usable, first, second, name, seed) for seed in seeds])
                for name, seeds in shared.items()
                if first in usable and second in usable
            },
            _why_not(arms, first, second),
        )
        for first, second, meaning in terms
    ]


def _paired(arms: Mapping[str, Cell], first: str, second: str, name: str, seed: int) -> float:
    return arms[first].scores(name)[seed] - arms[second].scores(name)[seed]


def _why_not(arms: Mapping[str, Cell], *names: str) -> str:
    missing = [name for name in names if name not in arms]
    present = (name for name in names if name in arms)
    aliases = [f"{name} is {arms[name].alias_of}" for name in present if arms[name].alias_of]
    return f"no {' and no '.join(missing)}" if missing else ", ".join(aliases)

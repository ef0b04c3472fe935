"""Presets and settings beside the algorithm that they change: ``dqn+``, ``ppo@hidden=32x32``."""

from collections.abc import Sequence

from jaxgen.report.generalisation.evidence import (
    Comparison,
    Place,
    base_of,
    compared,
    corrected,
)
from jaxgen.results.records import Cell
from jaxgen.study.arms import without_overrides


def origins(cells: Sequence[Cell]) -> dict[Place, str]:
    """The algorithm that each preset and each setting is compared with, where it is here.

    A setting has the preset or the algorithm that it is one of, and a preset has its algorithm.
    Where that was not run, all are compared with the first of their kind.
    """
    names: dict[Place, list[str]] = {}
    for cell in cells:
        family = names.setdefault((cell.environment, base_of(cell)), [])
        if cell.algorithm not in family:
            family.append(cell.algorithm)
    found: dict[Place, str] = {}
    for (environment, base), family in names.items():
        for name in family:
            wanted = [each for each in (without_overrides(name), base) if each != name]
            origin = next((each for each in wanted if each in family), family[0])
            if origin != name:
                found[environment, name] = origin
    return found


def own(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of algorithms that are no presets or settings of another one that is here."""
    derived = origins(cells)
    return [cell for cell in cells if (cell.environment, cell.algorithm) not in derived]


def in_panels(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of algorithms that fill a panel: not of a preset or a setting with one arm."""
    derived = origins(cells)
    places = [(cell.environment, cell.algorithm) for cell in cells]
    return [
        cell
        for cell, place in zip(cells, places, strict=True)
        if place not in derived or places.count(place) > 1
    ]


def compare_settings(cells: Sequence[Cell]) -> list[tuple[str, Comparison]]:
    """Differences of presets and settings from their algorithm, as one family.

    Returns:
      The arm that both have, and the difference of the two algorithms in it.
    """
    by_key = {(cell.environment, cell.algorithm, cell.arm): cell for cell in cells}
    derived = origins(cells)
    pairs = [
        (cell, by_key[environment, origin, cell.arm])
        for (environment, algorithm, _), cell in by_key.items()
        if (origin := derived.get((environment, algorithm)))
        and (environment, origin, cell.arm) in by_key
    ]
    family = corrected([
        compared(
            (cell.environment, other.algorithm),
            {cell.algorithm: cell, other.algorithm: other},
            cell.algorithm, other.algorithm,
        )
        for cell, other in pairs
    ])  # fmt: skip
    return list(zip((cell.arm for cell, _ in pairs), family, strict=True))

"""Presets and settings beside the algorithm that they change: ``dqn+``, ``ppo@hidden=32x32``.

Where a report is of several folders, ``ppo:old`` is ppo in the one that is called old; it is
compared with ppo in the first of them.
"""

import re
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

    The same in the first folder goes before all. A setting has the preset or the algorithm that
    it is one of, and a preset has its algorithm. Where that was not run, all are compared with the
    first of their kind.
    """
    names: dict[Place, list[str]] = {}
    for cell in cells:
        family = names.setdefault((cell.environment, base_of(cell)), [])
        if cell.algorithm not in family:
            family.append(cell.algorithm)
    found: dict[Place, str] = {}
    for (environment, base), family in names.items():
        for name in family:
            same = [each for each in family if without_folder(each) == without_folder(name)]
            others = [each for each in (without_overrides(name), base + _folder(name))
                      if each in family and each != name]  # fmt: skip
            origin = [*(same[:1] if same[0] != name else []), *others, family[0]][0]
            if origin != name:
                found[environment, name] = origin
    return found


def _folder(name: str) -> str:
    """The folder in an algorithm's name, behind its colon; "" where there is none."""
    found = re.match("[^:@]*(:[^@]*)", name)
    return found[1] if found else ""


def without_folder(name: str) -> str:
    """An algorithm's name without that of a folder."""
    return name.replace(_folder(name), "", 1)


def own(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of algorithms that are no presets or settings of another one that is here."""
    derived = origins(cells)

    def is_own(environment: str, name: str) -> bool:
        origin = derived.get((environment, name))
        return origin is None or (
            without_folder(origin) == without_folder(name) and is_own(environment, origin)
        )

    return [cell for cell in cells if is_own(cell.environment, cell.algorithm)]


def in_panels(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of algorithms that fill a panel: not of a preset or a setting with one arm."""
    alone = {(cell.environment, cell.algorithm) for cell in own(cells)}
    places = [(cell.environment, cell.algorithm) for cell in cells]
    return [
        cell
        for cell, place in zip(cells, places, strict=True)
        if place in alone or places.count(place) > 1
    ]


def in_order(cells: Sequence[Cell], folders: Sequence[str]) -> list[Cell]:
    """The cells in the order of the folders, and in their own within each."""
    ranks = {f":{name}": rank for rank, name in enumerate(folders)}
    return sorted(cells, key=lambda cell: ranks.get(_folder(cell.algorithm), -1))


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

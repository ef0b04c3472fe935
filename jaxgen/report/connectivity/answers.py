"""The answers of rows of lines: tables with intervals; the unit is the parent.

Everything follows from the rows of `jaxgen.report.connectivity.measures`. A statement about a study
is made where it is written; these are the numbers for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.evaluation.connectivity.verdict import MARGIN, judge
from jaxgen.evaluation.statistics import (
    can_be_ranked,
    half_width,
    holm,
    rank_correlation,
    sign_flip_test,
)
from jaxgen.report.connectivity.measures import Row, of_parents
from jaxgen.report.documents.document import Section, Table
from jaxgen.results.lines import STRAIGHT
from jaxgen.study.cards import algorithm_title, figure_title

MARKS = {"connected": "=", "not connected": "!=", "undecided": "?"}
MIN_PAIRED = 3
"""Fewer parents have no interval of a difference."""
MIN_TESTED = 6
"""Fewer parents cannot have p < .05 by signs."""
NAMES = ("policy's barrier", "rise of TD error, critics alone", "rise, policies as well",
         "least correlation")  # fmt: skip
TITLE = "Connectivity"


class Place(NamedTuple):
    """An environment, an algorithm and an arm: lines are compared within these."""

    environment: str
    algorithm: str
    arm: str

    @property
    def title(self) -> str:
        """The place in words."""
        return (
            f"{algorithm_title(self.algorithm)} on {figure_title(self.environment)}, {self.arm}"
        )


def answers(rows: Sequence[Row]) -> list[Section]:
    """All tables that rows give."""
    places: dict[Place, list[Row]] = {}
    for row in rows:
        places.setdefault(Place(row["environment"], row["algorithm"], row["arm"]), []).append(row)
    return [
        Section(TITLE, [_words(rows)]),
        Section("Barriers by fork point", [_by_point(place, own) for place, own in places.items()]),
        Section("Beside a copy", [_strategies(places)]),
        Section("Over training", [_trends(places)]),
        *_where_any("By level", _levels(places)),
        *_where_any("Policy and critic", _critics(places)),
        *_where_any("Other paths", _paths(places)),
        Section("As specified", [_as_specified(places)]),
        *_where_any("Barrier and generalisation", _generalisation(places)),
    ]


def _words(rows: Sequence[Row]) -> str:
    parents = {(row["parent"], row["seed"]) for row in rows}
    text = (
        f"{len(parents)} parents, {len(rows)} rows of lines. A barrier is a share of the scale "
        "from random play to the ceiling: the worst fall of a return on the line below the "
        "straight line between the ends' returns, chosen on half of the episodes and measured on "
        "the other half. Cells are means over parents with 95 % t intervals, and "
        f"= (connected: the interval ends below {MARGIN:g}), != (not connected: it begins above 0) "
        "or ? (undecided). Parents with an end that is not three standard errors above random "
        "play have no barrier."
    )
    return f"QUICK: not a result. {text}" if any(row["quick"] for row in rows) else text


def _where_any(title: str, table: Table) -> list[Section]:
    return [Section(title, [table])] if table.rows else []


def _first_level(rows: Sequence[Row]) -> list[Row]:
    level = min(row["level"] for row in rows)
    return [row for row in rows if row["level"] == level and row["path"] == STRAIGHT]


def _judged(values: Mapping[int, float]) -> str:
    """A mean with its interval, n and the mark of its verdict."""
    if not values:
        return "did not learn"
    verdict = judge(list(values.values()))
    text = f"{verdict.estimate:.3f}"
    if verdict.low is not None and verdict.estimate is not None:
        text += f" +- {verdict.estimate - verdict.low:.3f}"
    return f"{text} {MARKS[verdict.word]} ({verdict.num})"


def _mean(values: Sequence[float]) -> str:
    """A mean with its t interval, bold where that is on one side of 0."""
    if not len(values):
        return ""
    mean = float(np.mean(values))
    if len(values) < MIN_PAIRED:
        return f"{mean:+.3f} ({len(values)})"
    half = half_width(np.asarray(values))
    text = f"{mean:+.3f} +- {half:.3f}"
    return f"{f'**{text}**' if abs(mean) > half else text} ({len(values)})"


def _by_point(place: Place, rows: Sequence[Row]) -> Table:
    own = _first_level(rows)
    points = sorted({row["point"] for row in own if row["point"] is not None})
    lines = []
    for strategy, of_it in _by_strategy(own):
        at: list[float | None] = [None, *points]
        cells = [
            _judged(of_parents(each)) if (each := [r for r in of_it if r["point"] == point])
            else "" for point in at
        ]
        lines.append((strategy, *cells[1:], cells[0]))
    header = ("strategy", *(f"{point:g}" for point in points), "no point")
    return Table(f"{place.title}: barrier, forked at", header, lines)


def _by_strategy(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each strategy, in the order in which these come."""
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        yield strategy, [row for row in rows if row["strategy"] == strategy]


def _by_seed_and_point(rows: Sequence[Row]) -> dict[tuple[int, float], float]:
    found = {}
    for point in {row["point"] for row in rows}:
        own = [row for row in rows if row["point"] == point]
        found |= {(seed, point): value for seed, value in of_parents(own).items()}
    return found


def _strategies(places: Mapping[Place, Sequence[Row]]) -> Table:
    """Differences from copies at the same points, averaged within a parent."""
    lines = []
    for place, rows in places.items():
        own = [row for row in _first_level(rows) if row["point"] is not None]
        by_strategy, tested = dict(_by_strategy(own)), []
        copies = _by_seed_and_point(by_strategy.get("copy", []))
        for strategy, of_it in by_strategy.items():
            others = _by_seed_and_point(of_it)
            common = sorted(copies.keys() & others.keys())
            seeds = sorted({seed for seed, _ in common})
            if strategy == "copy" or not seeds:
                continue
            differences = [
                float(np.mean([others[key] - copies[key] for key in common if key[0] == seed]))
                for seed in seeds
            ]
            tested.append((strategy, differences))
        p_values = [sign_flip_test(each) for _, each in tested if len(each) >= MIN_TESTED]
        adjusted = iter(holm(p_values)) if p_values else iter(())
        lines += [
            (place.title, strategy, _mean(each),
             f"{next(adjusted):.3f}" if len(each) >= MIN_TESTED else "")
            for strategy, each in tested
        ]  # fmt: skip
    return Table(
        "Barrier less that of a copy at the same points", ("place", "strategy", "difference", "p"),
        lines, ("p by flips of signs over parents, with Holm's correction within a place.",),
    )  # fmt: skip


def _trends(places: Mapping[Place, Sequence[Row]]) -> Table:
    """Rank correlations of fork point and barrier, one for each parent."""
    lines = []
    for place, rows in places.items():
        placed = [row for row in _first_level(rows) if row["point"] is not None]
        for strategy, own in _by_strategy(placed):
            cells = _by_seed_and_point(own)
            trends = []
            for seed in sorted({seed for seed, _ in cells}):
                points = sorted(point for other, point in cells if other == seed)
                barriers = [cells[seed, point] for point in points]
                if can_be_ranked(points, barriers):
                    trends.append(float(rank_correlation([points], [barriers]).estimate))
            if trends:
                p = f"{sign_flip_test(trends):.3f}" if len(trends) >= MIN_TESTED else ""
                first, last = (_judged(_at(cells, end)) for end in (min, max))
                lines.append((place.title, strategy, _mean(trends), p, first, last))
    return Table(
        "Rank correlation of fork point and barrier",
        ("place", "strategy", "correlation", "p", "first point", "last point"), lines,
        ("One for each parent; below 0 the barrier falls with the fork point.",),
    )  # fmt: skip


def _at(cells: Mapping[tuple[int, float], float], end: object) -> dict[int, float]:
    """The cells at the first or the last point."""
    point = end(point for _, point in cells)  # pyright: ignore
    return {seed: value for (seed, at), value in cells.items() if at == point}


def _levels(places: Mapping[Place, Sequence[Row]]) -> Table:
    """Barriers at other levels less those at the first, of the same lines."""
    lines = []
    for place, rows in places.items():
        straight = [row for row in rows if row["path"] == STRAIGHT and row["point"] is not None]
        levels = sorted({row["level"] for row in straight})
        for strategy, own in _by_strategy(straight):
            values = {
                level: _by_line([row for row in own if row["level"] == level]) for level in levels
            }
            for level in levels[1:]:
                common = values[levels[0]].keys() & values[level].keys()
                seeds = sorted({key[0] for key in common})
                differences = [
                    float(np.mean([values[level][key] - values[levels[0]][key]
                                   for key in common if key[0] == seed])) for seed in seeds
                ]  # fmt: skip
                if differences:
                    lines.append((place.title, strategy, f"{level:g}", _mean(differences)))
    return Table(
        "Barrier at a level less that at the first one",
        ("place", "strategy", "level", "difference"), lines,
        ("Over all fork points of a parent; where both are known.",),
    )  # fmt: skip


def _by_line(rows: Sequence[Row]) -> dict[tuple[int, float, int], float]:
    return {
        (row["seed"], row["point"], row["number"]): row["barrier"] for row in rows if row["learned"]
    }


def _critics(places: Mapping[Place, Sequence[Row]]) -> Table:
    lines = []
    for place, rows in places.items():
        known = [row for row in _first_level(rows) if row["td_rise"] is not None]
        for strategy, of_it in _by_strategy(known):
            names = ("barrier", "td_rise", "td_rise_both", "correlation")
            means = [_mean([*of_parents(of_it, name).values()]) for name in names]
            lines.append((place.title, strategy, *means))
    return Table(
        "Policy's barrier, and the critic's line",
        ("place", "strategy", *NAMES), lines,
        ("Over all fork points. TD errors are in units of the deviation of both ends' values.",),
    )  # fmt: skip


def _paths(places: Mapping[Place, Sequence[Row]]) -> Table:
    lines = []
    for place, rows in places.items():
        level = min(row["level"] for row in rows)
        own = [row for row in rows if row["level"] == level]
        strategies = dict.fromkeys(row["strategy"] for row in own if row["path"] != STRAIGHT)
        for strategy in strategies:
            of_it = [row for row in own if row["strategy"] == strategy]
            lines += [
                (place.title, strategy, path,
                 _judged(of_parents([row for row in of_it if row["path"] == path])))
                for path in dict.fromkeys([STRAIGHT, *(row["path"] for row in of_it)])
            ]  # fmt: skip
    return Table(
        "Barrier of aligned lines and of single layers", ("place", "strategy", "path", "barrier"),
        lines, ("Over all fork points of a parent.",),
    )  # fmt: skip


def _as_specified(places: Mapping[Place, Sequence[Row]]) -> Table:
    lines = []
    for place, rows in places.items():
        for strategy, of_it in _by_strategy(_first_level(rows)):
            stable = sum(row["stable_as_specified"] for row in of_it)
            small = [row for row in of_it if row["learned"]]
            below = sum(row["barrier"] < MARGIN for row in small)
            lines.append(
                (place.title, strategy, f"{stable} of {len(of_it)}", f"{below} of {len(small)}")
            )
    return Table(
        "Lines that are stable as specified, and those with a small barrier",
        ("place", "strategy", "instability below 5 % of the ends' mean", f"barrier < {MARGIN:g}"),
        lines, ("5 % of a negative mean is negative, so that no line of such a task is stable.",),
    )  # fmt: skip


def _generalisation(places: Mapping[Place, Sequence[Row]]) -> Table:
    """Rank correlations of barrier and A_ood over the pairs of one fork point."""
    lines = []
    for place, rows in places.items():
        known = [row for row in _first_level(rows) if row["a_ood"] is not None and row["learned"]]
        for strategy, own in _by_strategy(known):
            strata = [*_strata(own)]
            if strata:
                found = rank_correlation([one for one, _ in strata], [other for _, other in strata])
                lines.append((
                    place.title, strategy, str(len(strata)), str(sum(len(s[0]) for s in strata)),
                    f"{found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}]",
                ))  # fmt: skip
    return Table(
        "Rank correlation of a pair's barrier and its ends' A_ood",
        ("place", "strategy", "fork points", "pairs", "correlation [95 %]"), lines,
        ("Within a fork point, averaged over these; pairs are resampled within their point, which "
         "takes the points of one parent for independent.",),
    )  # fmt: skip


def _strata(rows: Sequence[Row]) -> Iterator[tuple[list[float], list[float]]]:
    """Barriers and A_ood at each fork point at which they can be ranked."""
    for point in sorted({row["point"] for row in rows if row["point"] is not None}):
        at = [row for row in rows if row["point"] == point]
        barriers, scores = ([row[name] for row in at] for name in ("barrier", "a_ood"))
        if can_be_ranked(barriers, scores):
            yield barriers, scores

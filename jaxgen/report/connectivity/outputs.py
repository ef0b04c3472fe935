"""Everything that follows from lines: rows, verdicts, figures, and the specified tree of files."""

from collections.abc import Sequence

import numpy as np

from jaxgen.evaluation.connectivity.verdict import Verdict
from jaxgen.report.connectivity import pictures, studies
from jaxgen.report.connectivity.measures import TABLE, Key, Row, rows_of, table_of, verdicts
from jaxgen.report.style import to_png
from jaxgen.results.lines import STRAIGHT, Line, read_lines
from jaxgen.results.store import Store
from jaxgen.study.cards import algorithm_title, figure_title
from jaxgen.system.files import DamagedFile


def write_connectivity(store: Store, plots: bool = True) -> list[str]:
    """Write all that follows from the lines of a folder; the caller holds its lock.

    Returns:
      The verdicts in words, and what was left aside.
    """
    lines, damaged = read_lines(store)
    scores: dict[tuple[str, int], float | None] = {}
    measured = [(line, rows_of(line, _a_ood(store, line, scores))) for line in lines]
    rows = [row for _, own in measured for row in own]
    store.write_text(TABLE, table_of(rows))
    for (environment, algorithm, seed, parent), own in _by_parent(measured).items():
        tree = f"base/{environment}/{algorithm.upper()}/seed_{seed}_{parent[-8:]}/fork_analysis"
        _write_parent(store, tree, own, plots)
    if plots:
        _draw_study(store, measured)
    left_aside = [f"left aside: {text}" for text in damaged]
    return [*_table(rows), "", f"  a row per line and level   {store.path(TABLE)}", *left_aside]


def _a_ood(
    store: Store, line: Line, scores: dict[tuple[str, int], float | None]
) -> float | None:
    """The mean A_ood of a line's ends; null where one is not the end of a run."""
    values = []
    for end in line.meta["ends"]:
        if end["share"] != 1:
            return None
        key = end["run"], end["seed"]
        if key not in scores:
            try:
                scores[key] = store.read_result(*key)["scores"]["greedy"]["A_ood"]
            except DamagedFile:
                scores[key] = None
        values.append(scores[key])
    return None if None in values else float(np.mean(values))


Measured = tuple[Line, list[Row]]
"""A line, and its row for each level."""


def _by_parent(measured: Sequence[Measured]) -> dict[tuple[str, str, int, str], list[Measured]]:
    groups: dict[tuple[str, str, int, str], list[Measured]] = {}
    for line, rows in measured:
        meta = line.meta
        key = meta["environment"], meta["algorithm"], meta["seed"], meta["parent"]
        groups.setdefault(key, []).append((line, rows))
    return groups


def _write_parent(store: Store, tree: str, measured: Sequence[Measured], plots: bool) -> None:
    """The specified files of a parent."""
    content = []
    for line, rows in measured:
        mean = line.returns.mean(2, dtype=float)
        names = ("pair", "path", "point", "strategy", "number", "ends", "alphas", "levels")
        content.append({
            **{name: line.meta[name] for name in names}, "mean": mean.tolist(), "measures": rows,
        })  # fmt: skip
    store.write_json(f"{tree}/fork_analysis.json", {"forks": content})
    straight = [(line, rows) for line, rows in measured if line.meta["path"] == STRAIGHT]
    if not plots or not straight:
        return
    lines = [line for line, _ in straight]
    store.write_bytes(f"{tree}/all_interpolations.png", to_png(pictures.all_interpolations(lines)))
    for line in lines:
        name = f"{tree}/interp_{line.meta['pair']}.png"
        store.write_bytes(name, to_png(pictures.interpolation(line)))
    first = [rows[0] for _, rows in straight if rows[0]["point"] is not None]
    if first:
        figure = studies.instability_over_time(first, pictures.title_of(lines[0]))
        store.write_bytes(f"{tree}/instability_over_time.png", to_png(figure))


def _draw_study(store: Store, measured: Sequence[Measured]) -> None:
    """Figures over all parents of a place, at the first level."""
    places: dict[tuple[str, str, str], list[Measured]] = {}
    for line, rows in measured:
        key = line.meta["environment"], line.meta["algorithm"], line.meta["arm"]
        if line.meta["path"] == STRAIGHT:
            places.setdefault(key, []).append((line, rows))
    for (environment, algorithm, arm), own in places.items():
        first = [rows[0] for _, rows in own if rows[0]["learned"]]
        placed = [row for row in first if row["point"] is not None]
        title = f"{algorithm_title(algorithm)} on {figure_title(environment)}, {arm}"
        drawn = {}
        if placed:
            drawn["instability_over_time"] = studies.instability_over_time(first, title)
            drawn["heat_map"] = studies.heat_map(placed, title)
            drawn["distance"] = studies.distance_and_barrier(first, title)
        if any(row["td_rise"] is not None for row in placed):
            drawn["policy_and_critic"] = studies.policy_and_critic(placed, title)
        surface = [line for line, rows in own if rows[0]["learned"] and len(rows) > 1]
        if surface:
            drawn["levels"] = studies.levels_along(surface, title)
        for kind, figure in drawn.items():
            name = f"plots/{environment}_{algorithm}_{arm}_{kind}.png"
            store.write_bytes(name, to_png(figure))


def _table(rows: Sequence[Row]) -> list[str]:
    """Verdicts by cell, in words."""
    found = verdicts(rows)
    lines, last = [], None
    for key in sorted(found, key=lambda key: (*key[:5], key.level, key.point or 0.0)):
        head = f"{algorithm_title(key.algorithm)} on {figure_title(key.environment)}, {key.arm}"
        if head != last:
            columns = "  strategy            level  forked at   n  barrier [95 %]        verdict"
            lines += ["", head, columns]
        last = head
        lines.append(_line(key, found[key]))
    return lines


def _line(key: Key, verdict: Verdict) -> str:
    interval = ""
    if verdict.estimate is not None:
        interval = f"{verdict.estimate:.3f}"
        if verdict.low is not None:
            interval += f" [{verdict.low:.3f}, {verdict.high:.3f}]"
    name = key.strategy if key.path == STRAIGHT else f"{key.strategy} ({key.path})"
    point = "-" if key.point is None else f"{key.point:g}"
    return (
        f"  {name:18} {key.level:6g}  {point:>9}  {verdict.num:2d}  {interval:21} {verdict.word}"
    )

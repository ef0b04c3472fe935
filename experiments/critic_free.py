"""Learning without a critic, and what makes it work: tables and figure of CRITIC_FREE.md.

    python experiments/critic_free.py                       those of the rows that are kept
    python experiments/critic_free.py RESULTS [RESULTS ...] keep the rows of these folders first

A row is a run: GRPO with some settings, or PPO. Its area is the mean training return over all env
steps, scaled as s is, so that random play is 0 and the ceiling is 1. Effects are differences
between cells that are the same but for one setting, averaged within a seed; the seed is the unit.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import envs_jax  # noqa: F401  (registers what tables call the environments)
from experiments.tables import keep_rows, markdown, png_of, read_rows, run_page, updated
from jaxgen.evaluation.statistics import half_width
from jaxgen.results.records import Record
from jaxgen.study.cards import figure_title
from jaxgen.system.files import write_bytes

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "continuous" / "critic_free.csv", HERE / "CRITIC_FREE.md"
FIGURE = HERE / "images" / "critic_free.png"
SETTINGS = (
    "credit", "same_start", "scale_by_deviation", "gamma", "baseline", "group_size", "num_envs",
)  # fmt: skip
FIELDS: tuple[str, ...] = (
    "environment", "algorithm", *SETTINGS, "seed", "status", "env_steps", "area", "return", "s",
    "A_ood",
)  # fmt: skip
MEASURES = {"area": "area", "s": "s(0)", "A_ood": "A_ood"}

USUAL = ("step", "False", "False", "1", "group")
"""Settings of GRPO's usual cells, but for the size of groups."""

Row = dict[str, str]
Cell = tuple[str, ...]
"""Values of `SETTINGS`; empty ones of PPO."""


def row_of(record: Record) -> Row:
    """The row of a run."""
    config = dict(record.spec["config"]) | dict(record.spec.get("overrides") or {})
    settings: Row = dict.fromkeys(SETTINGS, "")
    if record.algorithm.startswith("grpo"):
        settings = {name: _word(config[name]) for name in SETTINGS}
    row: Row = {
        "environment": record.environment, "algorithm": record.algorithm, **settings,
        "seed": str(record.seed), "status": record.result["status"],
        "env_steps": str(record.result["env_steps"]["requested"]),
        "area": f"{area(record):.4f}", "return": "", "s": "", "A_ood": "",
    }  # fmt: skip
    if row["status"] == "done":
        greedy = record.result["scores"]["greedy"]
        row["return"] = f"{record.result['evaluation']['modes']['greedy']['mean'][0]:.2f}"
        row["s"], row["A_ood"] = f"{greedy['s'][0]:.4f}", f"{greedy['A_ood']:.4f}"
    return row


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def area(record: Record) -> float:
    """Mean return of training episodes over the env steps of a run, scaled as s(0) is.

    Iterations in which no episode ended have the return of the one before; those before the first
    that ended count as it does.
    """
    history = record.load_history()
    returns, steps = np.asarray(history["reward"], float), np.asarray(history["env_steps"], float)
    known = np.flatnonzero(np.isfinite(returns))
    if not known.size:
        return float("nan")
    latest = np.searchsorted(known, np.arange(len(returns)), "right") - 1
    filled = returns[known[np.maximum(latest, 0)]]
    references = record.result["references"]
    floor, ceiling = references["floor"][0], references["ceiling"][0]
    mean = np.average(filled, weights=np.diff(steps, prepend=0.0))
    return float((mean - floor) / (ceiling - floor))


def keep(folders: Sequence[str]) -> None:
    """Put the rows of results folders among those that are kept, in place of the same runs."""
    keep_rows(ROWS, FIELDS, folders, row_of, _key)


def _key(row: Row) -> tuple[str, ...]:
    numbers = (row["group_size"], row["num_envs"], row["seed"])
    words = (row["environment"], row["algorithm"], *(row[name] for name in SETTINGS[:5]))
    return *words, *(number.rjust(4) for number in numbers), row["env_steps"]


def cells_of(rows: Sequence[Row], environment: str) -> dict[Cell, dict[int, Row]]:
    """Rows of an environment by settings and seed; of PPO under empty settings."""
    cells: dict[Cell, dict[int, Row]] = {}
    for row in rows:
        if row["environment"] == environment:
            cell = tuple(row[name] for name in SETTINGS)
            cells.setdefault(cell, {})[int(row["seed"])] = row
    return cells


def value(row: Row, measure: str) -> float:
    """A measure of a run; of one that diverged 0, as it is a failure."""
    return float(row[measure]) if row["status"] == "done" else 0.0


class Effect(NamedTuple):
    """A comparison of cells that differ in one setting."""

    name: str
    setting: str
    better: str
    """The value that is supposed to be better, or the one that is asked about."""
    other: str
    where: Callable[[Mapping[str, str]], bool]
    """Which cells with the first value are compared."""


def _one_group(cell: Mapping[str, str]) -> bool:
    return cell["group_size"] == cell["num_envs"] and cell["baseline"] == "group"


def _plain(cell: Mapping[str, str]) -> bool:
    return _one_group(cell) and cell["gamma"] == "1"


def _credited(credit: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda cell: _plain(cell) and cell["credit"] == credit


def _fixed_batch(cell: Mapping[str, str]) -> bool:
    return cell["num_envs"] == "64" and cell["gamma"] == "1" and cell["baseline"] == "group"


def _default_form(cell: Mapping[str, str]) -> bool:
    return cell["gamma"] == "1" and cell["num_envs"] == cell["group_size"] == "16"


EFFECTS = (
    Effect("credit: step - episode", "credit", "step", "episode", _plain),
    Effect("start, credit by episode: same - any", "same_start", "True", "False",
           _credited("episode")),
    Effect("start, credit by step: same - any", "same_start", "True", "False", _credited("step")),
    Effect("/ deviation, credit by episode: yes - no", "scale_by_deviation", "True", "False",
           _credited("episode")),
    Effect("/ deviation, credit by step: yes - no", "scale_by_deviation", "True", "False",
           _credited("step")),
    Effect("one group an iteration: 4 - 16", "group_size", "4", "16", _plain),
    Effect("one group an iteration: 64 - 16", "group_size", "64", "16", _plain),
    Effect("64 episodes an iteration, groups: 4 - 16", "group_size", "4", "16", _fixed_batch),
    Effect("64 episodes an iteration, groups: 64 - 16", "group_size", "64", "16", _fixed_batch),
    Effect("discount, credit by step: yes - no", "gamma", "", "1", _one_group),
    Effect("mean of: the others - the group", "baseline", "others", "group", _default_form),
)  # fmt: skip


def differences(
    cells: Mapping[Cell, Mapping[int, Row]], effect: Effect, measure: str
) -> dict[int, float]:
    """Mean difference by seed, over all pairs of cells that the effect compares; of seeds that have
    all of them, so that each is a mean of the same pairs."""
    found: dict[int, list[float]] = {}
    for cell, rows in cells.items():
        named: Row = dict(zip(SETTINGS, cell, strict=True))
        if not cell[0] or not _has(named, effect) or not effect.where(named):
            continue
        changed = {effect.setting: effect.other}
        if effect.setting == "group_size" and effect.where is _plain:
            # One group an iteration stays one.
            changed["num_envs"] = effect.other
        partner = cells.get(tuple((named | changed)[name] for name in SETTINGS), {})
        for seed in rows.keys() & partner.keys():
            pair = value(rows[seed], measure) - value(partner[seed], measure)
            found.setdefault(seed, []).append(pair)
    most = max(map(len, found.values()), default=0)
    return {
        seed: float(np.mean(pairs)) for seed, pairs in sorted(found.items()) if len(pairs) == most
    }


def _has(cell: Mapping[str, str], effect: Effect) -> bool:
    if effect.better:
        return cell[effect.setting] == effect.better
    return cell[effect.setting] != effect.other


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of a sample and half the width of its 95 % t interval."""
    mean = float(np.mean(values))
    return mean, half_width(values) if len(values) > 1 else float("nan")


def effects_table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each effect and environment, its size in all measures."""
    header = ("effect", "environment", "n", *MEASURES.values())
    lines = []
    for effect in EFFECTS:
        for environment in _environments(rows):
            cells = cells_of(rows, environment)
            by_measure = [differences(cells, effect, name) for name in MEASURES]
            if not by_measure[0]:
                continue
            lines.append((
                effect.name, figure_title(environment), str(len(by_measure[0])),
                *(_with_interval(list(found.values())) for found in by_measure),
            ))  # fmt: skip
    return markdown(header, lines)


def _with_interval(values: Sequence[float]) -> str:
    mean, half = interval(values)
    text = f"{mean:+.3f} +- {half:.3f}"
    # Bold where the interval is on one side of 0.
    return f"**{text}**" if abs(mean) > half else text


def cells_table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each kind of cell, its measures by environment and group size."""
    environments = _environments(rows)
    kinds: dict[tuple[str, ...], None] = {}
    for row in rows:
        kinds[_kind(row)] = None
    header = ("credit", "start", "/ deviation", "episodes", *(
        f"{figure_title(name)}, G = {size}" for name in environments for size in ("4", "16", "64")
    ))  # fmt: skip
    lines = []
    for kind in sorted(kinds, key=lambda kind: (kind[0] == "PPO", kind[3], kind)):
        texts = [
            _summary([
                row for row in rows
                if row["environment"] == name and _kind(row) == kind
                and (row["group_size"] or "16") == size
            ])
            for name in environments for size in ("4", "16", "64")
        ]  # fmt: skip
        lines.append((*kind, *texts))
    return markdown(header, lines)


def _kind(row: Row) -> tuple[str, ...]:
    """A row's settings in words, but for the size of groups."""
    if not row["credit"]:
        return "PPO", "", "", ""
    credit = row["credit"] + (", discounted" if row["gamma"] != "1" else "")
    credit += ", others' mean" if row["baseline"] == "others" else ""
    one = row["group_size"] == row["num_envs"]
    return (
        credit, "same" if row["same_start"] == "True" else "any",
        "yes" if row["scale_by_deviation"] == "True" else "no", "G" if one else row["num_envs"],
    )


def _summary(rows: Sequence[Row]) -> str:
    """Mean area, s(0) and A_ood in brackets, and how many diverged, if any did."""
    if not rows:
        return ""
    areas, scores, shifted = ([value(row, name) for row in rows] for name in ("area", "s", "A_ood"))
    failed = sum(row["status"] != "done" for row in rows)
    text = f"{np.mean(areas):.2f} ({np.mean(scores):.2f}, {np.mean(shifted):.2f})"
    return text + (f", {failed} failed" if failed else "")


def _environments(rows: Sequence[Row]) -> list[str]:
    order = ["cartpole", "pendulum", "inverted_pendulum"]
    return sorted({row["environment"] for row in rows}, key=order.index)


def draw(rows: Sequence[Row]) -> bytes:
    """The areas of all cells with one group an iteration, and of PPO, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    environments = _environments(rows)
    figure, axes = plt.subplots(1, len(environments), figsize=(3.6 * len(environments), 3.4),
                                sharey=True, squeeze=False, layout="constrained")  # fmt: skip
    styles = {"episode": ("#c1553b", "o"), "step": ("#3b6ea8", "s"),
              "step, discounted": ("#4b8b57", "^")}  # fmt: skip
    for axis, environment in zip(axes[0], environments, strict=True):
        ours = [row for row in rows if row["environment"] == environment]
        for offset, (credit, (colour, marker)) in enumerate(styles.items()):
            for number, size in enumerate(("4", "16", "64")):
                _draw_cells(axis, [
                    row for row in ours
                    if _kind(row)[0] == credit and row["group_size"] == row["num_envs"] == size
                ], number + 0.22 * (offset - 1), colour, marker)  # fmt: skip
            axis.plot([], [], marker, color=colour, label=credit)
        areas = [value(row, "area") for row in ours if not row["credit"]]
        if areas:
            axis.axhline(np.mean(areas), color="#555555", linestyle="--", linewidth=1, label="PPO")
        axis.set(title=figure_title(environment), xlabel="episodes of a group",
                 xticks=range(3), xticklabels=("4", "16", "64"))  # fmt: skip
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes[0, 0].set_ylabel("training return over all env steps\n(0 random play, 1 ceiling)")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return png_of(figure)


def _draw_cells(axis: Any, rows: Sequence[Row], place: float, colour: str, marker: str) -> None:
    """Cells with a start and a division of their own beside each other: mean and t interval."""
    kinds = sorted({_kind(row)[1:3] for row in rows})
    for number, kind in enumerate(kinds):
        mean, half = interval([value(row, "area") for row in rows if _kind(row)[1:3] == kind])
        start, scaled = kind
        axis.errorbar(
            place + 0.05 * (number - 1.5), mean, half, color=colour, marker=marker, markersize=4,
            linewidth=1, markerfacecolor=colour if start == "same" else "white",
            alpha=1.0 if scaled == "yes" else 0.5,
        )  # fmt: skip


def ppo_table(rows: Sequence[Row]) -> str:
    """Markdown: PPO less the usual cell of each group size, of the seeds that both have."""
    header = ("PPO less the usual cell", "environment", "n", *MEASURES.values())
    lines = []
    for size in ("4", "16", "64"):
        usual = (*USUAL, size, size)
        for environment in _environments(rows):
            cells = cells_of(rows, environment)
            (ppo,) = [own for cell, own in cells.items() if not cell[0]] or [{}]
            other = cells.get(usual, {})
            common = sorted(ppo.keys() & other.keys())
            if common:
                texts = [
                    _with_interval([value(ppo[seed], name) - value(other[seed], name)
                                    for seed in common])
                    for name in MEASURES
                ]  # fmt: skip
                lines.append((f"G = {size}", figure_title(environment), str(len(common)), *texts))
    return markdown(header, lines)


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """The tables of the page by the names of their marks."""
    return {
        "effects": effects_table(rows), "ppo": ppo_table(rows), "cells": cells_table(rows)
    }


def write() -> str:
    """Write page and figure, and return the tables."""
    rows = read_rows(ROWS)
    made = tables(rows)
    write_bytes(PAGE, updated(PAGE.read_text(), made).encode())
    write_bytes(FIGURE, draw(rows))
    return "\n\n".join(made.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad input."""
    return run_page("critic_free.py", __doc__, argv, keep, write)


if __name__ == "__main__":
    sys.exit(main())

"""Training and policies under shift in continuous control: the tables of CONTROL_SHIFT.md.

    python experiments/control_shift.py                       those of the rows that are kept
    python experiments/control_shift.py RESULTS [RESULTS ...] keep the rows of these folders first

A row is a run. Differences are of the same seeds, which are the unit; a run that diverged counts
as random play.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import envs_jax  # noqa: F401  (registers what tables call the environments)
from experiments.tables import keep_rows, markdown, png_of, read_rows, run_page, updated
from jaxgen.evaluation.statistics import half_width, holm, sign_flip_test
from jaxgen.results.records import Record
from jaxgen.study.cards import algorithm_title, figure_title
from jaxgen.system.files import write_bytes

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "continuous" / "control_shift.csv", HERE / "CONTROL_SHIFT.md"
FIGURE = HERE / "images" / "control_shift.png"
LEVELS = ("0", "0.25", "0.5", "0.75", "1")
FIELDS: tuple[str, ...] = (
    "environment", "algorithm", "arm", "seed", "env_steps", "status", "A_ood",
    *(f"return_{level}" for level in LEVELS), *(f"s_{level}" for level in LEVELS),
)  # fmt: skip
ARMS = ("baseline", "dr", "gar", "dr-scaled")
COMPARED = (("dr", "baseline"), ("gar", "dr"), ("dr-scaled", "dr"))
GAUSSIAN = {"ppo-beta": "ppo", "ppo-mujoco-beta": "ppo-mujoco"}
MIN_TESTED = 6
"""Fewer pairs cannot have p < .05 by signs: they describe."""

Row = dict[str, str]


class Place(NamedTuple):
    """Runs of one environment, algorithm and budget: arms are compared within these."""

    environment: str
    algorithm: str
    env_steps: str


def row_of(record: Record) -> Row:
    """The row of a run."""
    result = record.result
    row: Row = dict.fromkeys(FIELDS, "")
    row |= {
        "environment": record.environment, "algorithm": record.algorithm,
        "arm": record.experiment.split("_")[-1], "seed": str(record.seed),
        "env_steps": str(result["env_steps"]["requested"]), "status": result["status"],
    }  # fmt: skip
    if row["status"] == "done":
        greedy = result["scores"]["greedy"]
        means = result["evaluation"]["modes"]["greedy"]["mean"]
        row["A_ood"] = f"{greedy['A_ood']:.4f}"
        for level, mean, share in zip(LEVELS, means, greedy["s"], strict=True):
            row[f"return_{level}"], row[f"s_{level}"] = f"{mean:.2f}", f"{share:.4f}"
    return row


def keep(folders: Sequence[str]) -> None:
    """Put the rows of results folders among those that are kept, in place of the same runs."""
    keep_rows(ROWS, FIELDS, folders, row_of, _key)


def _key(row: Row) -> tuple[str, ...]:
    words = (row["environment"], row["algorithm"], row["arm"])
    return *words, row["env_steps"].rjust(9), row["seed"].rjust(3)


def value(row: Row, measure: str) -> float:
    """A measure of a run; of one that diverged 0, which random play has."""
    return float(row[measure]) if row["status"] == "done" else 0.0


def cells_of(rows: Sequence[Row]) -> dict[Place, dict[str, dict[int, Row]]]:
    """Rows by place, arm and seed."""
    cells: dict[Place, dict[str, dict[int, Row]]] = {}
    for row in rows:
        place = Place(row["environment"], row["algorithm"], row["env_steps"])
        cells.setdefault(place, {}).setdefault(row["arm"], {})[int(row["seed"])] = row
    return cells


def differences(one: Mapping[int, Row], other: Mapping[int, Row], measure: str) -> list[float]:
    """Differences of the seeds that both have."""
    common = sorted(one.keys() & other.keys())
    return [value(one[seed], measure) - value(other[seed], measure) for seed in common]


def with_interval(values: Sequence[float], digits: int = 3, sign: bool = True) -> str:
    """A mean with its 95 % t interval; a difference bold where that is on one side of 0."""
    if not len(values):
        return ""
    mean, form = float(np.mean(values)), f"{'+' if sign else ''}.{digits}f"
    if len(values) < 2:
        return f"{mean:{form}}"
    half = half_width(values)
    text = f"{mean:{form}} +- {half:.{digits}f}"
    return f"**{text}**" if sign and abs(mean) > half else text


def arms_table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each place and arm."""
    header = ("environment", "algorithm", "arm", "n", "s(0)", "s(.5)", "s(1)", "A_ood", "diverged")
    lines = []
    for place, arms in cells_of(rows).items():
        for arm in (name for name in ARMS if name in arms and len(arms) > 1):
            own = list(arms[arm].values())
            texts = [
                with_interval([value(row, name) for row in own], sign=False)
                for name in ("s_0", "s_0.5", "s_1", "A_ood")
            ]
            failed = sum(row["status"] != "done" for row in own)
            lines.append((*_words(place), arm, str(len(own)), *texts, str(failed or "")))
    return markdown(header, lines)


def _words(place: Place) -> tuple[str, str]:
    return figure_title(place.environment), algorithm_title(place.algorithm)


def training_table(rows: Sequence[Row]) -> str:
    """Markdown: differences of arms, paired by seed, with p over all lines of an environment."""
    header = ("environment", "algorithm", "difference", "n", "s(0)", "s(1)", "A_ood", "p of A_ood")
    found = []
    for place, arms in cells_of(rows).items():
        for arm, other in COMPARED:
            if arm in arms and other in arms:
                measured = [
                    differences(arms[arm], arms[other], name) for name in ("s_0", "s_1", "A_ood")
                ]
                if measured[0]:
                    found.append((place, f"{arm} - {other}", measured))
    p_values = _corrected([(place.environment, measured[2]) for place, _, measured in found])
    return markdown(header, [
        (*_words(place), name, str(len(measured[0])), *map(with_interval, measured), p)
        for (place, name, measured), p in zip(found, p_values, strict=True)
    ])  # fmt: skip


def _corrected(samples: Sequence[tuple[str, list[float]]]) -> list[str]:
    """p by flips of signs with Holm's correction over the samples of one name, in words."""
    words = [""] * len(samples)
    for name in {name for name, _ in samples}:
        tested = [
            number for number, (other, sample) in enumerate(samples)
            if other == name and len(sample) >= MIN_TESTED
        ]  # fmt: skip
        if tested:
            adjusted = holm([sign_flip_test(samples[number][1]) for number in tested])
            for number, p in zip(tested, adjusted, strict=True):
                words[number] = f"{p:.4f}" if p >= 1e-4 else "< .0001"
    return words


def policies_table(rows: Sequence[Row]) -> str:
    """Markdown: beta less Gaussian policies, paired by seed."""
    header = ("environment", "env steps", "n", "return of Gaussian", "return of beta",
              "difference at level 0", "s(0)", "A_ood", "p of the return")  # fmt: skip
    cells, found = cells_of(rows), []
    for place, arms in cells.items():
        if place.algorithm in GAUSSIAN and "baseline" in arms:
            gaussian = place._replace(algorithm=GAUSSIAN[place.algorithm])
            other = cells.get(gaussian, {}).get("baseline", {})
            common = sorted(arms["baseline"].keys() & other.keys())
            if common:
                found.append((place, *({seed: source[seed] for seed in common}
                                       for source in (arms["baseline"], other))))  # fmt: skip
    p_values = _corrected([
        ("all", differences(beta, gaussian, "return_0")) for _, beta, gaussian in found
    ])  # fmt: skip
    lines = []
    for (place, beta, gaussian), p in zip(found, p_values, strict=True):
        means = [f"{np.mean([value(row, 'return_0') for row in source.values()]):.1f}"
                 for source in (gaussian, beta)]  # fmt: skip
        lines.append((
            figure_title(place.environment), f"{int(place.env_steps):,}", str(len(beta)), *means,
            with_interval(differences(beta, gaussian, "return_0"), 1),
            *(with_interval(differences(beta, gaussian, name)) for name in ("s_0", "A_ood")), p,
        ))  # fmt: skip
    return markdown(header, lines)


def draw(rows: Sequence[Row]) -> bytes:
    """s by level for each arm, a panel for each place with arms, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    places = {place: arms for place, arms in cells_of(rows).items() if len(arms) > 1}
    num = max(1, len(places))
    figure, axes = plt.subplots(1, num, figsize=(3.2 * num, 3.2), sharey=True, squeeze=False,
                                layout="constrained")  # fmt: skip
    levels = np.array(LEVELS, float)
    colours: dict[str, str] = dict(
        zip(ARMS, ("#777777", "#3b6ea8", "#c1553b", "#4b8b57"), strict=True)
    )
    for axis, (place, arms) in zip(axes[0], places.items(), strict=False):
        for number, arm in enumerate(name for name in ARMS if name in arms):
            values = np.array([
                [value(row, f"s_{level}") for level in LEVELS] for row in arms[arm].values()
            ])  # fmt: skip
            half = [half_width(column) for column in values.T] if len(values) > 1 else None
            axis.errorbar(levels + 0.012 * (number - 1.5), values.mean(0), half, label=arm,
                          color=colours[arm], marker="os^D"[number], markersize=4,
                          linewidth=1.2)  # fmt: skip
        axis.set(title=", ".join(reversed(_words(place))), xlabel="level", xticks=levels)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes[0, 0].set_ylabel("s (0 random play, 1 ceiling)")
    if places:
        axes[0, -1].legend(frameon=False, fontsize=8)
    return png_of(figure)


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """The tables of the page by the names of their marks."""
    return {
        "training": training_table(rows), "arms": arms_table(rows), "policies": policies_table(rows)
    }


def write() -> str:
    """Write page and figure, and return the tables."""
    rows = read_rows(ROWS)
    made = tables(rows)
    write_bytes(PAGE, updated(PAGE.read_text(), made).encode())
    if any(len(arms) > 1 for arms in cells_of(rows).values()):
        write_bytes(FIGURE, draw(rows))
    return "\n\n".join(made.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad input."""
    return run_page("control_shift.py", __doc__, argv, keep, write)


if __name__ == "__main__":
    sys.exit(main())

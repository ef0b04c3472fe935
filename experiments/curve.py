"""The run of the specified workflow on HalfCheetah beside its own numbers and published ones.

    python experiments/curve.py               the table and the figure of the curve that is kept
    python experiments/curve.py RESULTS       keep the curve of this results folder first

The specified run is one seed of SAC over two million steps, with the settings that its search
chose; it evaluates with a reset noise of .1 and trains with .15. CONTINUOUS.md has the table.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.tables import markdown, with_table
from jaxgen.report.style import BLUE, GREY, ORANGE, default_look
from jaxgen.results.read import read_records
from jaxgen.results.store import open_store
from jaxgen.system.errors import BadInput
from jaxgen.system.files import write_bytes

HERE = Path(__file__).parent
CURVE, PAGE = HERE / "continuous" / "specified_run.csv", HERE / "CONTINUOUS.md"
PICTURE = HERE / "images" / "specified_run.png"


class Beside(NamedTuple):
    """Returns that others report after so many env steps."""

    specified: float
    """One seed."""
    mean: float
    deviation: float
    """Over ten seeds of SAC (Lee et al. 2025)."""


REPORTED = {
    500_000: Beside(9_999, 9_838, 922),
    1_000_000: Beside(10_740, 11_321, 1_051),
    2_000_000: Beside(11_483, 13_521, 1_616),
}
NUM_PUBLISHED = 10


def read_curve() -> dict[int, float]:
    """Return of ten greedy episodes by env steps, as it is kept."""
    with CURVE.open(newline="") as file:
        return {int(row["env_steps"]): float(row["return"]) for row in csv.DictReader(file)}


def keep(folder: str) -> None:
    """Keep the curve of the only run of a results folder."""
    records, _ = read_records(open_store(folder, create=False))
    if len(records) != 1:
        raise BadInput(f"{folder} holds {len(records)} runs that are done; give a folder of one")
    (record,) = records
    history = record.load_history()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("env_steps", "return"))
    pairs = zip(history["eval_env_steps"], history["eval_return"], strict=True)
    writer.writerows((int(steps), f"{value:.1f}") for steps, value in pairs)
    write_bytes(CURVE, text.getvalue().encode())


def table(curve: dict[int, float]) -> str:
    """Markdown: a line for each reported number of env steps."""
    header = (
        "env steps", "this run", "specified run", "published mean +- sd (N = 10)",
        "this run less the mean, in sd of a new seed",
    )  # fmt: skip
    lines = []
    for steps, beside in REPORTED.items():
        found = curve.get(steps)
        spread = beside.deviation * np.sqrt(1 + 1 / NUM_PUBLISHED)
        distance = "" if found is None else f"{(found - beside.mean) / spread:+.1f}"
        lines.append((
            f"{steps:,}", "not reached" if found is None else f"{found:,.0f}",
            f"{beside.specified:,.0f}", f"{beside.mean:,.0f} +- {beside.deviation:,.0f}", distance,
        ))  # fmt: skip
    return markdown(header, lines)


@default_look()
def draw(curve: dict[int, float]) -> Figure:
    """The curve, the specified run's three points, published means with their deviations."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = np.array(list(curve)) / 1e6
    axes.plot(steps, [*curve.values()], "-", color=BLUE, label="this run (1 seed)")
    at = np.array(list(REPORTED)) / 1e6
    means = [beside.mean for beside in REPORTED.values()]
    spread = [beside.deviation for beside in REPORTED.values()]
    axes.errorbar(at, means, spread, fmt="s", color=GREY, capsize=3,
                  label="published SAC, mean and sd of 10 seeds")  # fmt: skip
    axes.plot(at, [beside.specified for beside in REPORTED.values()], "D", color=ORANGE,
              label="specified run (1 seed)")  # fmt: skip
    axes.set(xlabel="million env steps", ylabel="greedy return, 10 episodes", ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        "curve.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="?", metavar="RESULTS", help="results folder")
    args = parser.parse_args(argv)
    try:
        if args.results:
            keep(args.results)
        curve = read_curve()
    except (BadInput, OSError) as error:
        print(f"curve.py: {error}", file=sys.stderr)
        return 2
    picture = io.BytesIO()
    draw(curve).savefig(picture, format="png", dpi=150)
    write_bytes(PICTURE, picture.getvalue())
    text = table(curve)
    write_bytes(PAGE, with_table(PAGE.read_text(), "specified run", text).encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

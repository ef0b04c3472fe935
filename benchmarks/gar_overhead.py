"""What gar costs: the time of an update with a gradient per variation, their agreement and their
combination, over that of an update with one gradient of the pooled batch, equal samples.

All arms of the matrix share one program, so that comparing arms would show nothing.
"""

import sys
from typing import Any

from harness import Case, Contender, by_case, parse, parser, readable, run_benchmark

UPDATE = "contenders.own_training:update"
NUM_LANES = 18
"""As in the default matrix: 6 arms x 3 seeds."""

UPDATES = {"ppo cartpole": 30, "ppo minigrid": 3, "dqn cartpole": 80, "dqn minigrid": 15}
"""Calls of ``update``, or whole iterations, in a turn of about a second."""


def cases(quick: bool) -> list[Case]:
    """Both gradient-based algorithms on both environments."""
    names = ("per variation", False), ("pooled", True)
    contenders = [Contender(name, UPDATE, args={"pooled": pooled}) for name, pooled in names]
    found = []
    for label in UPDATES:
        found.append(Case(label, update_args(label, quick), contenders, repeats=9))
    return found


def update_args(label: str, quick: bool) -> dict[str, Any]:
    """What a contender of updates or of whole iterations is asked for."""
    algorithm, environment = label.split()
    return {
        "algorithm": algorithm, "environment": environment,
        "num_lanes": 2 if quick else NUM_LANES, "num_updates": 1 if quick else UPDATES[label],
    }


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: updates of a lane per second and the ratio of the times."""
    lines = ["| update | per variation | pooled | time ratio |", "|---|---|---|---|"]
    for label, (own, pooled) in by_case(records).items():
        rates = own["steps_per_second"], pooled["steps_per_second"]
        lines.append(f"| {label} | {readable(rates[0])}/s | {readable(rates[1])}/s "
                     f"| **{rates[1] / rates[0]:.3f}** |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print how many times as long the update per variation takes."""
    options = parse(parser(__doc__, "gar_overhead"))
    title = "Updates of a lane per second: a gradient per variation against one of the pooled batch"
    return run_benchmark(cases(options.quick), "gar_overhead", title, options, table)


if __name__ == "__main__":
    sys.exit(main())

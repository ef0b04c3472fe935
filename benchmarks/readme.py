"""Writes the tables of the committed records into benchmarks/README.md, between its markers."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bridge
import control_throughput
import gar_overhead
import matrix
import roofline
import train_throughput
import trials
from harness import HERE, by_case, read_records, readable, table

PAGE = HERE / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def tables(folder: Path) -> str:
    """Markdown of all benchmarks whose records are there, with machine and versions."""
    sections = []
    for name, (title, render) in SECTIONS.items():
        path = folder / f"{name}.jsonl"
        if path.exists():
            records = read_records(path)
            sections.append(f"**{title}** ({provenance(records)})\n\n{render(records)}")
    return "\n\n".join(sections)


def provenance(records: list[dict[str, Any]]) -> str:
    """The machines, JAX and each contender's own version, as the records name them."""
    machines = {(record["hardware"]["num_cores"], record["hardware"]["cpu"]) for record in records}
    versions = {f"jax {record['versions']['jax']}" for record in records
                if "jax" in record["versions"]}
    for record in records:
        name = record.get("contender", "").split(",")[0]
        if name in record["versions"]:
            versions.add(f"{name} {record['versions'][name]}")
    note = "; QUICK, not a result" if any(record["quick"] for record in records) else ""
    listed = " and ".join(f"{cores} cores, {cpu}" for cores, cpu in sorted(machines))
    return f"{listed}; {', '.join(sorted(versions))}{note}"


def _training(records: list[dict[str, Any]]) -> str:
    lines = [table(records)]
    for record in by_case(records).get(train_throughput.RECORDED_CASE, []):
        ratio = record["steps_per_second"] / train_throughput.PUREJAXRL_DQN
        lines.append(
            f"purejaxrl is no package; its DQN was recorded at "
            f"{readable(train_throughput.PUREJAXRL_DQN)} steps/s on such a machine, not in the "
            f"same run: **{ratio:.3g}** times that."
        )
    compiling = {
        record["case"]: record["facts"]["compile_seconds"]
        for record in records if record["contender"] == "jaxgen"
    }
    longest = max(compiling, key=compiling.__getitem__)
    lines.append(
        f"Our longest trace and compile: {compiling[longest]:.1f} s ({longest}). "
        "stable-baselines3 trains its seeds in turn, in one process on one thread."
    )
    return "\n\n".join(lines)


SECTIONS = {
    "env_throughput": ("Environment steps per second", table),
    "bridge": ("Environment steps per second on procgen's starpilot", bridge.table),
    "train_throughput": ("Training steps per second at equal work, CartPole", _training),
    "control_throughput": (
        "Training steps per second of continuous control", control_throughput.summary,
    ),
    "trials": (trials.TITLE, trials.table),
    "gar_overhead": ("What gradients per variation cost", gar_overhead.table),
    "matrix": ("Wall time of the default matrix, seconds", matrix.table),
    "roofline": ("Share of the machine's limit", roofline.summary),
}


def updated(text: str, folder: Path) -> str:
    """The page's text with fresh tables.

    Raises ValueError if a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"{PAGE} lacks the marker {BEGIN} or {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables(folder)}\n{END}{rest.split(END)[1]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite the page."""
    argparse.ArgumentParser("readme.py", description=__doc__).parse_args(argv)
    PAGE.write_text(updated(PAGE.read_text(), HERE / "results"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

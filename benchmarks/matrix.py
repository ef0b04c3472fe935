"""Wall time of the default matrix, cold and warm, and where it goes.

Each run is the default command in a process of its own with an empty results folder: cold
with an empty compilation cache, warm with the one that the cold run left.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import PACKAGES, hardware, parse, parser, write_records
from worker import peak_megabytes, versions

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("import", "compile", "train", "evaluate", "rest")
"""``compile`` is of training; ``evaluate`` holds its own compilation; ``rest``: training content,
references, writing, tables and plots."""


def run_matrix(folder: Path, name: str, extra: list[str]) -> dict[str, Any]:
    """Run the matrix once -> seconds of each phase, its programs and the largest memory."""
    results = folder / name
    command = [sys.executable, str(ROOT / "experiments" / "matrix.py"), "--vmap-seeds",
               "--quiet", "--out", str(results), *extra]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    programs = program_seconds(results)
    phases = {"import": _import_seconds(environment)}
    for phase in ("compile", "train", "evaluate"):
        phases[phase] = sum(program[phase] for program in programs.values())
    phases["rest"] = seconds - sum(phases.values())
    return {
        "case": name, "seconds": seconds, "phases": phases, "programs": programs,
        "peak_megabytes": round(peak_megabytes(usage)),
    }


def program_seconds(results: Path) -> dict[str, dict[str, float]]:
    """Seconds of each compiled program, from the provenance of any of its runs."""
    files = [json.loads(path.read_text()) for path in results.glob("runs/*/*/provenance.json")]
    # A group may take several batches of lanes; all runs of a batch name the same seconds.
    batches = {(file["program"], *file["seconds"].items()): file["seconds"] for file in files}
    programs: dict[str, dict[str, float]] = {}
    for (name, *_), seconds in sorted(batches.items(), key=str):
        total = programs.setdefault(name, dict.fromkeys(seconds, 0.0))
        for phase, value in seconds.items():
            total[phase] += value
    return programs


def _import_seconds(environment: dict[str, str]) -> float:
    start = time.perf_counter()
    modules = "import jaxgen.running.runner, jaxgen.report.outputs, jaxgen.report.figures"
    subprocess.run([sys.executable, "-c", modules], env=environment, check=True)
    return time.perf_counter() - start


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: a line per run and one per program."""
    lines = ["| run | total s | " + " | ".join(PHASES) + " | MiB |",
             "|---|---|" + "---|" * len(PHASES) + "---|"]
    for record in records:
        phases = " | ".join(f"{record['phases'][phase]:.1f}" for phase in PHASES)
        lines.append(f"| {record['case']} | {record['seconds']:.0f} | {phases} "
                     f"| {record['peak_megabytes']} |")
        for name, seconds in record["programs"].items():
            inner = " | ".join(f"{seconds[phase]:.1f}" for phase in PHASES[1:-1])
            total = sum(seconds.values())
            lines.append(f"| - {name} | {total:.0f} | | {inner} | | |")
    return "\n".join(lines)


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Stacked bars of the phases."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 1 + 0.6 * len(records)), layout="constrained")
    names = [record["case"] for record in records]
    left = [0.0] * len(records)
    for phase in PHASES:
        widths = [record["phases"][phase] for record in records]
        axes.barh(names, widths, left=left, label=phase)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds", title="Wall time of the matrix by phase")
    axes.invert_yaxis()
    axes.legend(fontsize=8, ncols=len(PHASES), loc="upper center", bbox_to_anchor=(0.5, -0.3))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Run cold, then warm."""
    options = parser(__doc__, "matrix", with_cases=False)
    options.add_argument("--full", dest="quick", action="store_false", help="the default")
    arguments = parse(options)
    quick = arguments.quick
    extra = ["--quick"] if quick else []
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            record = run_matrix(Path(folder), name, extra)
            records.append(record | {
                "benchmark": "matrix", "quick": quick, "hardware": hardware(),
                "versions": versions(PACKAGES),
            })
            print(f"{name}: {record['seconds']:.0f} s", flush=True)
    print("\n" + table(records))
    write_records(arguments.out / "matrix.jsonl", records)
    plot(records, arguments.out / "matrix.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

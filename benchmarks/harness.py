"""Parts that the benchmarks share: contenders in processes of their own, interleaved runs, records.

Machines are noisy, so that a figure means little alone: contenders take turns, a figure is the
median of its turns, and what is reported is the ratio to the peer of the same minutes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.system import platform

HERE = Path(__file__).resolve().parent
OWN, ONE, ALL = "jaxgen", "one device", "all devices"
PEERS_PYTHON = "JAXGEN_PEERS_PYTHON"
"""The environment variable that names the interpreter of the second environment."""

PACKAGES = [
    "jaxgen", "jax", "jaxlib", "flax", "optax", "numpy", "gymnax", "xminigrid", "navix",
    "gymnasium", "minigrid", "envpool", "rejax", "evosax", "stable-baselines3", "torch",
    "procgen-mirror", "gym3", "sbx-rl", "mujoco",
]


class Contender(NamedTuple):
    """The contender: a function of a module under ``contenders``, see `worker`."""

    name: str
    function: str
    """``module:function``; called with the arguments of the case, returns (run, facts)."""
    second_environment: bool = False
    """It is installed beside the peers and not beside jaxgen."""
    args: dict[str, Any] = {}
    """Arguments of its own, beside those of the case."""


class Case(NamedTuple):
    """One line of a benchmark: the same work for all its contenders, jaxgen first."""

    label: str
    args: dict[str, Any]
    contenders: list[Contender]
    repeats: int = 5
    cores: int | None = None
    """Cores that each contender is kept to, all to the same ones; None: it may use any."""


class ContenderFailed(RuntimeError):
    """A contender's process ended before its answer."""


class Process:
    """A contender that has been set up and waits for its turns."""

    def __init__(self, contender: Contender, case: Case, python: str):
        self.contender = contender
        self.turns: list[dict[str, Any]] = []
        self.peak_megabytes = 0.0
        self._process = subprocess.Popen(
            [python, str(HERE / "worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=_environment(case.cores), cwd=HERE,
        )
        request = {
            "contender": contender.function, "args": case.args | contender.args,
            "packages": PACKAGES, "cores": case.cores,
        }
        answer = self._ask(json.dumps(request))
        self.missing: str | None = answer.get("missing")
        self.facts: dict[str, Any] = answer.get("facts", {})
        self.versions: dict[str, str] = answer.get("versions", {})
        self.cores: int | None = answer.get("cores")
        """Cores that it may use, as its system says; None: there is no saying, or it has ended."""

    def take_turn(self, warming_up: bool = False) -> None:
        """Run once; a warm-up is not counted."""
        answer = self._ask("run")
        self.peak_megabytes = answer["peak_megabytes"]
        if not warming_up:
            self.turns.append(answer["result"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.close()
            name, code = self.contender.name, self._process.returncode
            raise ContenderFailed(f"{name} ended with code {code}; see its messages")
        return json.loads(answer)


def measure(cases: Sequence[Case], benchmark: str, quick: bool) -> Iterator[list[dict[str, Any]]]:
    """Measure case after case; each yields a record per contender that is installed.

    Raises ContenderFailed if one of ours, or one that had started well, ends.
    """
    for case in cases:
        with ExitStack() as stack:
            processes = [process for contender in case.contenders
                         if (process := _start(contender, case, stack)) is not None]
            for process in processes:
                process.take_turn(warming_up=True)
            for _ in range(1 if quick else case.repeats):
                for process in processes:
                    process.take_turn()
            records = [_record(benchmark, case, process, quick) for process in processes]
        yield records


def _start(contender: Contender, case: Case, stack: ExitStack) -> Process | None:
    """Set a contender up; a peer that is missing or fails is skipped by name, ours never."""
    python = os.environ.get(PEERS_PYTHON, "") if contender.second_environment else sys.executable
    # Not resolved: an environment's interpreter is a link.
    python = os.path.abspath(python) if python else ""
    if not os.access(python, os.X_OK):
        print(f"{contender.name}: skipped, {PEERS_PYTHON} names no interpreter", file=sys.stderr)
        return None
    try:
        process = Process(contender, case, python)
        stack.callback(process.close)
        problem = process.missing
    except ContenderFailed as failure:
        process, problem = None, str(failure)
    if problem and contender.name.startswith(OWN):
        raise ContenderFailed(problem)
    if problem:
        print(f"{contender.name}: skipped, {problem}", file=sys.stderr)
        return None
    return process


def _environment(cores: int | None = None) -> dict[str, str]:
    """The same for all: as many virtual CPU devices as cores (None: of the machine), wide vectors
    as in our command line, compiled programs are not kept."""
    environment = dict(os.environ)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    flags = environment.get("XLA_FLAGS", "")
    if "force_host_platform_device_count" not in flags:
        count = f"--xla_force_host_platform_device_count={cores or platform.num_cores()}"
        environment["XLA_FLAGS"] = f"{flags} {count}".strip()
    if "prefer_vector_width" not in environment["XLA_FLAGS"]:
        environment["XLA_FLAGS"] += " --xla_cpu_prefer_vector_width=512"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return environment


def _record(benchmark: str, case: Case, process: Process, quick: bool) -> dict[str, Any]:
    rates = [turn["steps"] / turn["seconds"] for turn in process.turns]
    others = {key: value for key, value in process.turns[-1].items()
              if key not in ("steps", "seconds")}
    return {
        "benchmark": benchmark, "case": case.label, "args": case.args | process.contender.args,
        "contender": process.contender.name,
        "steps_per_second": statistics.median(rates),
        "lowest": min(rates), "highest": max(rates), "repeats": len(rates),
        "seconds": statistics.median(turn["seconds"] for turn in process.turns),
        "peak_megabytes": round(process.peak_megabytes),
        "facts": process.facts | others, "versions": process.versions,
        "hardware": hardware(), "cores": process.cores, "quick": quick,
        "xla_flags": _environment(case.cores)["XLA_FLAGS"],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def hardware() -> dict[str, Any]:
    """The machine of the measurement."""
    return {"cpu": platform.cpu_model(), "num_cores": platform.num_cores()}


def parser(
    description: str | None, benchmark: str, with_cases: bool = True
) -> argparse.ArgumentParser:
    """The options that all benchmarks have, and ``--only`` for those with cases."""
    summary = (description or "").strip().splitlines()[0]
    options = argparse.ArgumentParser(description=summary)
    options.add_argument("--quick", action="store_true", help="smallest cases, once: not a result")
    if with_cases:
        options.add_argument(
            "--only", metavar="REGEX", default="",
            help="cases whose name matches; the records of the others stay as they are",
        )
    options.add_argument(
        "--out", type=Path,
        help=f"folder of {benchmark}.jsonl and {benchmark}.png (default: benchmarks/results, "
        "or quick in it)",
    )
    return options


def parse(options: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; a quick run never writes over a real one by default."""
    arguments = options.parse_args()
    if arguments.out is None:
        arguments.out = HERE / "results" / ("quick" if arguments.quick else "")
    return arguments


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write lines of JSON, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record, sort_keys=True) + "\n" for record in records))
    temporary.replace(path)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read lines of JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_case(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group in the order in which cases were measured."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["case"], []).append(record)
    return groups


def table(records: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: jaxgen's steps/s, each peer's, and how many times each peer jaxgen is.

    Where both ran on one device, a second ratio compares just these.
    """
    head = "jaxgen, all devices", "one device", "peers (jaxgen is so many times as fast)"
    lines = [f"| case | {' | '.join(head)} |", "|---|---|---|---|"]
    for label, group in by_case(records).items():
        rates = {record["contender"]: record["steps_per_second"] for record in group}
        own_rate, single = rates[OWN], rates.get(f"{OWN}, {ONE}")
        listed = []
        for name, rate in rates.items():
            if not name.startswith(OWN):
                equal = f"; {single / rate:.3g} on one" if single and ONE in name else ""
                listed.append(f"{name} {readable(rate)} (**{own_rate / rate:.3g}**{equal})")
        alone = readable(single) if single else ""
        lines.append(f"| {label} | {readable(own_rate)} | {alone} | {', '.join(listed)} |")
    return "\n".join(lines)


def readable(number: float) -> str:
    """Three digits and a letter for thousands or millions."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _hue(contender: str) -> str:
    return contender.removesuffix(f", {ONE}").removesuffix(f", {ALL}")


def plot_rates(records: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Bars of steps/s per case and contender on a logarithmic axis, with the turns' range."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    groups = by_case(records)
    # A hue for each contender, in dark and, on one of several devices, in light.
    contenders = dict.fromkeys(record["contender"] for record in records)
    hues = list(dict.fromkeys(map(_hue, contenders)))
    names = sorted(contenders, key=lambda name: hues.index(_hue(name)))
    palette = plt.get_cmap("tab20")
    colours = {
        name: palette((2 * hues.index(_hue(name)) + name.endswith(ONE)) % palette.N)
        for name in names
    }
    bars = sum(len(group) + 1 for group in groups.values())
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.24 * bars), layout="constrained")
    position, ticks = 0.0, []
    for group in groups.values():
        ticks.append(position + (len(group) - 1) / 2)
        for record in group:
            rate = record["steps_per_second"]
            error = [[rate - record["lowest"]], [record["highest"] - rate]]
            axes.barh(position, rate, color=colours[record["contender"]], xerr=error)
            axes.annotate(readable(rate), (record["highest"], position), xytext=(3, 0),
                          textcoords="offset points", va="center", fontsize=8)
            position += 1
        position += 1
    axes.set(xscale="log", xlabel="steps/s, median of the turns and their range", title=title)
    axes.set_yticks(ticks, list(groups))
    axes.invert_yaxis()
    axes.margins(x=0.16)
    handles = [Patch(color=colours[name]) for name in names]
    axes.legend(handles, names, fontsize=8, loc="lower left", bbox_to_anchor=(1.0, 0.0))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run_benchmark(
    cases: Sequence[Case], benchmark: str, title: str, options: argparse.Namespace,
    render: Callable[[list[dict[str, Any]]], str] = table,
) -> int:
    """Measure, print the table, write records and plot.

    A case that was measured takes the place of its old records at once; those of the others stay.
    """
    chosen = [case for case in cases if re.search(options.only, case.label)]
    labels = [case.label for case in cases]
    if not chosen:
        print(f"no case matches {options.only!r}; there are: {', '.join(labels)}", file=sys.stderr)
        return 2
    path = options.out / f"{benchmark}.jsonl"
    groups = by_case(read_records(path)) if path.exists() else {}
    for group in measure(chosen, benchmark, options.quick):
        for record in group:
            rate = readable(record["steps_per_second"])
            print(f"{record['case']:40s} {record['contender']:20s} {rate}/s", flush=True)
            groups[record["case"]] = group
        write_records(path, [record for label in labels for record in groups.get(label, [])])
    records = read_records(path)
    print("\n" + render(records))
    plot_rates(records, options.out / f"{benchmark}.png", title)
    print(f"\nwritten: {options.out / benchmark}.jsonl and .png")
    return 0

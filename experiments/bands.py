"""Returns at level 0 beside published ones: the table of CONTINUOUS.md, from the rows beside it.

    python experiments/bands.py                       the table of the rows that are kept
    python experiments/bands.py RESULTS [RESULTS ...] keep the rows of these results folders first

A mean is accepted from the published mean less two standard errors of the difference on, those of
n seeds here and N there.
"""

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import envs_jax  # noqa: F401  (registers what tables call the environments)
from experiments.tables import markdown, read_rows, run_page, with_table
from jaxgen.report.source import read_source
from jaxgen.results.read import read_records
from jaxgen.results.records import HEADLINE_MODE, Cell, Record, group_cells
from jaxgen.results.store import open_store
from jaxgen.results.table import csv_text, read_csv, rows
from jaxgen.study.cards import figure_title
from jaxgen.system.files import write_bytes

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "continuous" / "results.csv.gz", HERE / "CONTINUOUS.md"
PEERS = HERE / "continuous" / "peers.csv"
"""Returns of peers with the protocol of a preset, from benchmarks/contenders/peer_returns.py."""


class Band(NamedTuple):
    """A published result at level 0."""

    environment: str
    presets: tuple[str, ...]
    """Names of presets that train as it did, with settings that differ behind an @."""
    env_steps: int
    mean: float
    deviation: float
    """Over seeds."""
    count: int
    """N, seeds; 0: nothing is published, and the mean is a bound."""
    source: str
    mode: str = HEADLINE_MODE
    """How actions were chosen: greedy, or sampled as in training."""
    least: float | None = None
    """The least mean that is accepted; None: by the rule."""

    def accepted_from(self, n: int) -> float:
        """The least mean of ``n`` seeds that is accepted."""
        if self.least is not None:
            return self.least
        return self.mean - 2 * self.deviation * float(np.sqrt(1 / n + 1 / self.count))


_SAC = ("sac-published", "sac-half@num_variations=1")
BANDS = (
    Band("pendulum", _SAC, 20_000, -157, 89, 750, "RL Zoo; sd and N of episodes", least=-175),
    # Four environments of 1024 steps.
    Band("pendulum", ("ppo@num_minibatches=64@num_steps=1024@num_variations=1",), 100_000,
         -172, 104, 750, "RL Zoo; sd and N of episodes", least=-195),
    Band("pendulum", ("td3-published", "ddpg-published"), 20_000, -152, 92, 750,
         "RL Zoo; sd and N of episodes", least=-175),
    Band("halfcheetah", _SAC, 100_000, 6156, 700, 10, "Lee et al. 2025"),
    Band("halfcheetah", _SAC, 300_000, 8593, 964, 10, "Lee et al. 2025"),
    Band("halfcheetah", ("crossq-published",), 100_000, 8112, 896, 10, "Lee et al. 2025"),
    Band("halfcheetah", ("ppo-mujoco",), 1_000_000, 1443, 46, 3,
         "Huang et al. 2022, in training", mode="sampled"),
    Band("halfcheetah", ("ppo-mujoco-beta",), 1_000_000, 2455, 824, 3,
         "the specified study's best cell, in training", mode="sampled", least=1500),
    Band("hopper", ("ppo-mujoco",), 1_000_000, 2383, 272, 3,
         "Huang et al. 2022, in training", mode="sampled"),
    Band("inverted_double_pendulum", _SAC, 100_000, 9360, 0, 10, "Weng et al. 2022, of a million",
         least=9000),
    Band("cartpole", ("grpo",), 500_000, 500, 0, 0, "the most that can be had", least=450),
    Band("inverted_pendulum", ("grpo-beta",), 1_000_000, 1000, 0, 0, "the most that can be had",
         least=950),
    # Of a million steps; 1000 is what balances to the end.
    Band("inverted_pendulum", ("ppo-mujoco",), 100_000, 1000, 0, 10, "Weng et al. 2022",
         least=950),
)  # fmt: skip


def table(records: Sequence[Record], peers: Sequence[dict[str, str]] = ()) -> str:
    """Markdown: a line for each preset, arm, budget and environment, then those of peers."""
    header = (
        "environment", "preset", "env steps", "n", "J(0) by seed", "mean +- sd", "published",
        "compared", "accepted from", "",
    )  # fmt: skip
    lines = [_line(cell) for cell in group_cells(records)]
    return markdown(header, lines + peer_lines(peers))


def _line(cell: Cell) -> tuple[str, ...]:
    env_steps = cell.records[0].result["env_steps"]["requested"]
    returns = _returns(cell)
    arm = "" if cell.arm == "baseline" else f" {cell.arm}"
    failed = f" ({cell.num_diverged} diverged)" if cell.num_diverged else ""
    place = figure_title(cell.environment), f"`{cell.algorithm}`{arm}", f"{env_steps:,}"
    count = f"{len(cell.records)}{failed}"
    return *place, count, _by_seed(returns), _spread(returns), *_comparison(cell, env_steps)


def _returns(cell: Cell, mode: str = HEADLINE_MODE) -> np.ndarray:
    """J(0) of the seeds that finished."""
    curves = cell.curves(mode)
    return curves[:, 0] if curves.size else np.empty(0)


def _by_seed(returns: np.ndarray) -> str:
    return ", ".join(f"{value:.0f}" for value in returns)


def _spread(returns: np.ndarray) -> str:
    if len(returns) < 2:
        return f"{returns.mean():.0f}" if len(returns) else ""
    return f"{returns.mean():.0f} +- {returns.std(ddof=1):.0f}"


def _comparison(cell: Cell, env_steps: int) -> tuple[str, ...]:
    """The published result, what is compared with it, the least accepted mean, and the verdict."""
    band = band_of(cell.environment, cell.algorithm, env_steps)
    if band is None or cell.arm != "baseline":
        return ("",) * 4
    published, compared, least, verdict = _beside(
        band, _returns(cell, band.mode), len(cell.records)
    )
    # A mean of those that did not fail would be one of chosen seeds.
    if cell.num_diverged:
        return published, band.mode, least, "not all seeds finished"
    return published, compared, least, verdict


def _beside(band: Band, returns: np.ndarray, num_seeds: int) -> tuple[str, str, str, str]:
    least = band.accepted_from(num_seeds)
    verdict = "in the band" if returns.size and returns.mean() >= least else "**below**"
    published = f"{band.mean:.0f} ({band.source})"
    if band.count:
        published = f"{band.mean:.0f} +- {band.deviation:.0f} (N = {band.count}, {band.source})"
    return published, f"{band.mode}, {_spread(returns)}", f"{least:.0f}", verdict


def peer_lines(peers: Sequence[dict[str, str]]) -> list[tuple[str, ...]]:
    """Lines of other packages' returns wherever something published has so many steps."""
    cells: dict[tuple[str, ...], list[float]] = {}
    for row in peers:
        names = "peer", "version", "environment", "preset", "env_steps"
        cells.setdefault(tuple(row[name] for name in names), []).append(float(row["return"]))
    lines = []
    for (peer, version, environment, preset, env_steps), values in cells.items():
        band = band_of(environment, preset, int(env_steps))
        if band is None:
            continue
        returns = np.array(values)
        lines.append((
            figure_title(environment), f"{peer} {version}", f"{int(env_steps):,}",
            str(len(returns)), _by_seed(returns), _spread(returns),
            *_beside(band, returns, len(returns)),
        ))  # fmt: skip
    return lines


def band_of(environment: str, preset: str, env_steps: int) -> Band | None:
    """The published result with which a preset's can be compared; None: there is none."""
    for band in BANDS:
        same = (band.environment, band.env_steps) == (environment, env_steps)
        if same and preset in band.presets:
            return band
    return None


def keep(folders: Sequence[str]) -> None:
    """Put the rows of results folders among those that are kept, in place of the same runs."""
    kept = {(record.name, record.seed): record for record in read_kept()}
    for folder in folders:
        records, damaged = read_records(open_store(folder, create=False))
        for line in damaged:
            print(f"left aside: {line}", file=sys.stderr)
        kept |= {(record.name, record.seed): record for record in records}
    text = csv_text(rows(kept.values()))
    write_bytes(ROWS, gzip.compress(text.encode(), mtime=0))


def read_kept() -> list[Record]:
    """The records that are kept."""
    if not ROWS.exists():
        return []
    return read_csv(read_source(ROWS).text)


def updated(text: str) -> str:
    """The page's text with a fresh table."""
    return with_table(text, "bands", table(read_kept(), read_rows(PEERS)))


def write() -> str:
    """Write the page, and return its table."""
    write_bytes(PAGE, updated(PAGE.read_text()).encode())
    return table(read_kept(), read_rows(PEERS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad input."""
    return run_page("bands.py", __doc__, argv, keep, write)


if __name__ == "__main__":
    sys.exit(main())

"""Cheetahs on their feet or on their back, by the noise of their starts in training.

    python experiments/posture.py                         the table of the rows that are kept
    python experiments/posture.py RESULTS [RESULTS ...]   play the agents of these folders first

Every agent plays the same 20 episodes at level 0 with a reset noise of .1. MUJOCO.md has the table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax.mujoco.tasks import MujocoTask, Simulations
from experiments.tables import markdown, read_rows, run_page, with_table, write_rows
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.saving import load_agent
from jaxgen.results.read import read_records
from jaxgen.results.store import open_store
from jaxgen.system.errors import BadInput
from jaxgen.system.files import write_bytes

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "continuous" / "posture.csv", HERE / "MUJOCO.md"
NOISE, NUM_EPISODES = 0.1, 20
PITCH = 2
"""Number of the position that is the pitch of the torso, in radians."""
FIELDS: tuple[str, ...] = (
    "algorithm", "env_steps", "reset_noise_scale", "seed", "return", "upside_down",
)  # fmt: skip
KEYS = FIELDS[:4]


def play(agent: Agent) -> tuple[float, float]:
    """Mean return, and the share of steps in which the torso is upside down."""
    task = MujocoTask("halfcheetah", reset_noise_scale=NOISE)
    sims, seeds = Simulations(task, NUM_EPISODES, NOISE), np.arange(NUM_EPISODES)
    sims.begin(seeds, seeds, np.zeros(NUM_EPISODES, np.float32))
    act, total, upside_down = jax.jit(agent.act), np.zeros(NUM_EPISODES), 0.0
    for _ in range(task.spec.max_episode_steps):
        total += sims.step(np.asarray(act(sims.observe().astype(np.float32)))).reward
        upside_down += (np.cos(sims.bodies.qpos[:, PITCH]) < 0).mean()
    return float(total.mean()), upside_down / task.spec.max_episode_steps


def keep(folders: Sequence[str]) -> None:
    """Put the rows of the agents of results folders among those that are kept."""
    kept = {tuple(row[key] for key in KEYS): row for row in read_rows(ROWS)}
    for folder in folders:
        store = open_store(folder, create=False)
        for record in read_records(store)[0]:
            if (environment := record.spec["environment"]) != "halfcheetah":
                raise BadInput(f"{folder} holds agents of {environment}, no cheetahs")
            agent = load_agent(store.seed_dir(record.name, record.seed))
            options = agent.task_options or {}
            mean, share = play(agent)
            values = (
                record.spec["algorithm"], record.result["env_steps"]["requested"],
                options.get("reset_noise_scale", NOISE), record.seed, f"{mean:.1f}", f"{share:.3f}",
            )  # fmt: skip
            row = dict(zip(FIELDS, map(str, values), strict=True))
            kept[tuple(row[key] for key in KEYS)] = row
    write_rows(ROWS, FIELDS, (kept[key] for key in sorted(kept)))


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: a line for each preset, budget and noise."""
    header = (
        "preset", "env steps", "reset noise in training", "n", "return by seed",
        "share of steps upside down, by seed",
    )  # fmt: skip
    cells: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        cells.setdefault(tuple(row[key] for key in KEYS[:3]), []).append(row)
    lines = [
        (
            f"`{algorithm}`", f"{int(env_steps):,}", noise, str(len(own)),
            ", ".join(f"{float(row['return']):.0f}" for row in own),
            ", ".join(f"{float(row['upside_down']):.2f}" for row in own),
        )
        for (algorithm, env_steps, noise), own in cells.items()
    ]  # fmt: skip
    return markdown(header, lines)


def write() -> str:
    """Write the page, and return its table."""
    text = table(read_rows(ROWS))
    write_bytes(PAGE, with_table(PAGE.read_text(), "posture", text).encode())
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad input."""
    return run_page("posture.py", __doc__, argv, keep, write)


if __name__ == "__main__":
    sys.exit(main())

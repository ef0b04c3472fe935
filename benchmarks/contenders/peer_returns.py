"""Returns of SBX's SAC on HalfCheetah-v5 with its own defaults, beside which ours can be put.

    peers/bin/python benchmarks/contenders/peer_returns.py 0 1 2 3 4        these seeds, in turn

It runs in the peers' environment. Rows go to experiments/continuous/peers.csv, and `python
experiments/bands.py` puts them into the table of CONTINUOUS.md. A seed that has its rows already is
not trained again.
"""

# Peers live in an environment of their own.
# pyright: reportMissingImports=false

import argparse
import csv
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "experiments" / "continuous" / "peers.csv"
FIELDS = ("peer", "version", "environment", "preset", "env_steps", "seed", "episodes", "return")
GYMNASIUM_NAME, FIRST_EPISODE = "HalfCheetah-v5", 1000


def greedy_return(model: Any, num_episodes: int) -> float:
    """Mean return of the policy's means over episodes that are the same for all seeds."""
    import gymnasium

    env, total = gymnasium.make(GYMNASIUM_NAME), 0.0
    for episode in range(num_episodes):
        observation, _ = env.reset(seed=FIRST_EPISODE + episode)
        ended = False
        while not ended:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + float(reward), terminated or truncated
    env.close()
    return total / num_episodes


def train(seed: int, total_steps: int, every: int, num_episodes: int) -> list[dict[str, Any]]:
    """Train a seed; a row for each evaluation."""
    from sbx import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    found: list[dict[str, Any]] = []

    class Evaluated(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps % every == 0:
                found.append({
                    "peer": "SBX", "version": version("sbx-rl"), "environment": "halfcheetah",
                    "preset": "sac-published", "env_steps": self.num_timesteps, "seed": seed,
                    "episodes": num_episodes,
                    "return": round(greedy_return(self.model, num_episodes), 1),
                })  # fmt: skip
                print(found[-1], flush=True)
            return True

    model = SAC("MlpPolicy", GYMNASIUM_NAME, seed=seed, device="cpu")
    model.learn(total_steps, callback=Evaluated())
    return found


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        "peer_returns.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--total-steps", type=int, default=100_000, metavar="N")
    parser.add_argument(
        "--every", type=int, default=10_000, metavar="N", help="evaluate after so many"
    )
    parser.add_argument("--episodes", type=int, default=10, metavar="N", help="of an evaluation")
    parser.add_argument("--out", type=Path, default=PATH, metavar="FILE")
    args = parser.parse_args(argv)
    done = {int(row["seed"]) for row in read(args.out)}
    for seed in args.seeds:
        if seed in done:
            continue
        found = train(seed, args.total_steps, args.every, args.episodes)
        new = not args.out.exists()
        with args.out.open("a", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

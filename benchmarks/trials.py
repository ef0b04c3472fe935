"""A search's trials as lanes: ten learning rates with three seeds each, PPO on CartPole.

In one program; as ten trainings in turn by one program that is compiled once; and from the start of
a process to its end, all in one process or each trial in a process of its own, one after the other.
A process finds compiled programs in the cache that jaxgen keeps, as a user's does.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from harness import OWN, Case, Contender, by_case, parse, parser, readable, run_benchmark
from worker import Run, timed

NUM_TRIALS, NUM_SEEDS, TOTAL_STEPS = 10, 3, 50_000
TOGETHER, IN_TURN = f"{OWN}, one program", f"{OWN}, trials in turn"
ONE_PROCESS, PROCESSES = f"{OWN}, one process", f"{OWN}, a process a trial"


def cases(quick: bool) -> list[Case]:
    """Training alone, then with all that a process does before."""
    args = {"total_steps": TOTAL_STEPS // 10 if quick else TOTAL_STEPS}
    apart = {"num_parts": NUM_TRIALS}
    training = [Contender(TOGETHER, "trials:train", args={"num_parts": 1}),
                Contender(IN_TURN, "trials:train", args=apart)]  # fmt: skip
    whole = [Contender(ONE_PROCESS, "trials:processes", args={"num_parts": 1}),
             Contender(PROCESSES, "trials:processes", args=apart)]  # fmt: skip
    return [Case("training alone", args, training), Case("whole processes", args, whole, repeats=1)]


def train(num_parts: int, total_steps: int) -> tuple[Run, dict]:
    """Train all trials in so many parts, one after the other, by a program that is compiled."""
    import jax
    import numpy as np

    work, compiling = _parts(num_parts, total_steps, range(num_parts))

    def run() -> dict[str, Any]:
        seconds, metrics = timed(lambda: jax.block_until_ready([part() for part in work]))
        num_lanes = NUM_TRIALS * NUM_SEEDS // num_parts
        steps = sum(int(np.asarray(each["env_steps"])[:num_lanes, -1].sum()) for each in metrics)
        return {"steps": steps, "seconds": seconds}

    return run, {"compile_seconds": compiling}


def _parts(num_parts: int, total_steps: int, chosen: Any) -> tuple[list[Any], float]:
    """Functions that train a part each, and the seconds of the compilation that they share."""
    import jax
    import numpy as np

    from envs_jax import make_task
    from jaxgen.algorithms import ALGORITHMS
    from jaxgen.study.config import replace
    from jaxgen.study.presets import preset
    from jaxgen.techniques import make_technique
    from jaxgen.training.build import make_program
    from jaxgen.training.fit import needed_devices, padded
    from jaxgen.training.program import stack_lanes

    rates = [1e-4 * 10 ** (2 * number / (NUM_TRIALS - 1)) for number in range(NUM_TRIALS)]
    base, technique = preset("ppo", "cartpole"), make_technique("baseline")
    configs = [replace(base, {"total_steps": total_steps, "learning_rate": r}) for r in rates]
    each = [(config, technique) for config in configs for _ in range(NUM_SEEDS)]
    seeds = list(range(NUM_SEEDS)) * NUM_TRIALS
    size = len(each) // num_parts
    devices = needed_devices(size)
    program = make_program(make_task("cartpole"), ALGORITHMS["ppo"], stack_lanes(each[:1], [0]),
                           chunk=configs[0].num_iterations, devices=devices)  # fmt: skip
    start, stop = np.int32(0), np.int32(configs[0].num_iterations)
    compiled: Any = None
    compiling, parts = 0.0, []

    def work(lanes: Any, content: Any) -> Any:
        carry = program.learner.init(lanes, content)
        return jax.block_until_ready(compiled(lanes, carry, content, start, stop))[1]

    for part in chosen:
        span = slice(part * size, (part + 1) * size)
        arms = padded(each[span], program.capacity)
        own = padded(seeds[span], program.capacity)
        lanes = stack_lanes(arms, own)
        content = program.world.content(lanes, np.int32(0))  # pyright: ignore[reportArgumentType]
        if compiled is None:
            carry = program.learner.init(lanes, content)
            compiling, compiled = timed(
                lambda: program.learner.compile(lanes, carry, content)  # noqa: B023
            )

        parts.append(partial(work, lanes, content))
    return parts, compiling


def processes(num_parts: int, total_steps: int) -> tuple[Run, dict]:
    """Train each part in a process of its own."""

    def run() -> dict[str, Any]:
        def all_of_them() -> None:
            for part in range(num_parts):
                words = [sys.executable, str(Path(__file__).resolve()), "--part",
                         *map(str, (part, num_parts, total_steps))]  # fmt: skip
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

        seconds, _ = timed(all_of_them)
        return {"steps": NUM_TRIALS * NUM_SEEDS * total_steps, "seconds": seconds}

    return run, {}


def _train_part(part: int, num_parts: int, total_steps: int) -> None:
    """Be one of the processes."""
    from jaxgen.system import platform

    platform.configure()
    for work in _parts(num_parts, total_steps, [part])[0]:
        work()


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: env steps per second together and apart, and the ratio."""
    lines = ["| | together | apart | together over apart |", "|---|---|---|---|"]
    for label, (together, apart) in by_case(records).items():
        rates = together["steps_per_second"], apart["steps_per_second"]
        lines.append(f"| {label} | {readable(rates[0])}/s | {readable(rates[1])}/s "
                     f"| **{rates[0] / rates[1]:.3g}** |")
    return "\n".join(lines)


TITLE = f"Env steps per second of {NUM_TRIALS} trials with {NUM_SEEDS} seeds, PPO on CartPole"


def main() -> int:
    """Measure; with --part be a process that is measured."""
    if sys.argv[1:2] == ["--part"]:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        _train_part(*map(int, sys.argv[2:5]))
        return 0
    options = parse(parser(__doc__, "trials"))
    return run_benchmark(cases(options.quick), "trials", TITLE, options, table)


if __name__ == "__main__":
    sys.exit(main())

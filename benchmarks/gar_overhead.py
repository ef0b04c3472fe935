"""The cost of gar: the time of an update with a gradient per variation, their agreement and their
combination, over that of an update with one gradient of the pooled batch, equal samples.

All arms of the matrix share one program, so that comparing arms would show nothing. On images both
take their gradients over equally many samples at a time, so that only the split differs.
"""

import sys
from types import SimpleNamespace
from typing import Any

from harness import Case, Contender, by_case, parse, parser, readable, run_benchmark
from jaxgen.study.presets import preset
from worker import Run, timed

UPDATE = "contenders.own_training:update"
NUM_LANES = 18
"""Lanes of the default matrix: 6 arms x 3 seeds."""

UPDATES = {"ppo cartpole": 30, "ppo minigrid": 3, "dqn cartpole": 80, "dqn minigrid": 15}
"""Calls of ``update``, or whole iterations, in a turn of about a second."""

IMAGES, PARTS = "ppo starpilot, 1/4 rollout", 4
"""An update of a convolutional network takes several seconds: here it has this part of the steps
and of the minibatches, each of which stays as large as it is."""


def cases(quick: bool) -> list[Case]:
    """Both gradient-based algorithms on both environments, then images."""
    update_cases = [
        Case(label, update_args(label, quick), _both(UPDATE), repeats=9) for label in UPDATES
    ]
    args = {"overrides": image_overrides(quick)}
    return [*update_cases, Case(IMAGES, args, _both("gar_overhead:update_on_images"), repeats=9)]


def _both(function: str) -> list[Contender]:
    names = ("per variation", False), ("pooled", True)
    return [Contender(name, function, args={"pooled": pooled}) for name, pooled in names]


def update_args(label: str, quick: bool) -> dict[str, Any]:
    """The request to a contender of updates or of whole iterations."""
    algorithm, environment = label.split()
    return {
        "algorithm": algorithm, "environment": environment,
        "num_lanes": 2 if quick else NUM_LANES, "num_updates": 1 if quick else UPDATES[label],
    }


def image_overrides(quick: bool) -> dict[str, Any]:
    """Overrides that shorten rollouts: to one of `PARTS`, or to a single small minibatch."""
    if quick:
        return {"num_steps": 4, "num_minibatches": 1, "num_epochs": 1}
    config: Any = preset("ppo", "starpilot")
    return {name: getattr(config, name) // PARTS for name in ("num_steps", "num_minibatches")}


def update_on_images(overrides: dict[str, Any], pooled: bool) -> tuple[Run, dict]:
    """Time PPO's ``update`` of a single lane on starpilot, as lanes follow each other in training.

    Images, rewards and ends are random, so that procgen is not needed; what is kept of the actions
    is what the network gave. Each turn goes on from the parameters of the last.

    Args:
      overrides: of the preset's fields.
      pooled: as for `contenders.own_training.update`.
    """
    import jax
    import numpy as np

    from contenders.own_training import _config, _pooled
    from envs_jax import make_task
    from jaxgen.algorithms import ALGORITHMS
    from jaxgen.techniques import MULTI_LEVELS, Technique
    from jaxgen.training.host import init_host_carry, make_host_functions
    from jaxgen.training.host_rollout import collect_host, lane_of
    from jaxgen.training.program import stack_lanes
    from jaxgen.types import HostStep

    cell = "ppo", "starpilot"
    task = make_task("starpilot")
    config = _config(*cell, overrides | (_pooled(*cell) if pooled else {}))
    technique = Technique(
        levels=(0.0,) if pooled else MULTI_LEVELS, agreement=0.0 if pooled else 1.0
    )
    lanes = stack_lanes([(config, technique)], [0])
    functions = make_host_functions(task, ALGORITHMS["ppo"], lanes)
    shape, generator = (1, config.num_variations, config.num_envs), np.random.default_rng(0)

    def images() -> np.ndarray:
        return generator.integers(256, size=(*shape, *task.spec.obs_shape), dtype=np.uint8)

    def step(action: np.ndarray) -> HostStep:
        obs, done = images(), generator.random(shape) < 0.01
        reward = generator.random(shape, np.float32)
        return HostStep(obs, reward, done, np.zeros_like(done), obs)

    carry = init_host_carry(functions, lanes, images())
    lane = jax.tree.map(lambda leaf: leaf[0], lanes)
    actor, words = functions.acting.prepare(lane, carry.state[0], carry.episodes.total[0], 0)
    of_lanes = jax.tree.map(lambda leaf: leaf[None], actor)
    env: Any = SimpleNamespace(step=step)
    _, rollout, _ = collect_host(
        env, task.spec, lambda *args: functions.acting.act(lanes, of_lanes, *args),
        functions.acting.shape.keeps_obs, carry.episodes, np.asarray(words)[None],
    )
    rollout = jax.device_put(lane_of(rollout, 0))
    state = [carry.state[0], carry.env_steps[0]]
    lower: Any = functions.learner.update.lower  # pyright: ignore[reportFunctionMemberAccess]
    compiling, compiled = timed(lambda: lower(lane, *state, actor, rollout, 0).compile())

    def update() -> None:
        state[:] = jax.block_until_ready(compiled(lane, *state, actor, rollout, 0)[:2])

    return lambda: {"seconds": timed(update)[0], "steps": 1}, {"compile_seconds": compiling}


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: updates of a lane per second and the ratio of the times."""
    lines = ["| update | per variation | pooled | time ratio |", "|---|---|---|---|"]
    for label, (per_variation, pooled) in by_case(records).items():
        rates = per_variation["steps_per_second"], pooled["steps_per_second"]
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

"""Our training programs, at the peers' configurations, and single updates of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contenders.splitting import over_devices, split_over
from envs_jax import make_task
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.episodes import make_episodes
from jaxgen.study import config as configuration
from jaxgen.study.presets import preset
from jaxgen.techniques import MULTI_LEVELS, Technique
from jaxgen.training.device import make_device_program
from jaxgen.training.keys import evaluation_key, iteration_keys, stream_key
from jaxgen.training.program import Carry, Lanes, Program, stack_lanes
from jaxgen.training.rollout import collect, start_episodes
from jaxgen.types import Task
from worker import Run, timed

WARM_UP_SHARE = 0.1
"""Share of its budget that a policy trains for before its updates are timed."""
CHUNK = 64


def train(
    algorithm: str, num_seeds: int, overrides: dict[str, Any], num_iterations: int | None = None,
    environment: str = "cartpole", all_devices: bool = True,
) -> tuple[Run, dict]:
    """Train seeds together as the matrix does: lanes over devices, one call for the whole run.

    Args:
      algorithm: registry name.
      num_seeds: lanes, which are padded to a multiple of the devices; padding counts no steps.
      overrides: of the preset's fields.
      num_iterations: None: as many as the budget holds; steps that count are counted.
      environment: registry name.
      all_devices: split the lanes over all devices, not leave them on one.
    """
    config = _config(algorithm, environment, overrides)
    task = make_task(environment)
    devices = jax.devices()[: num_seeds if all_devices else 1]
    seeds = list(range(num_seeds + -num_seeds % len(devices)))
    technique = Technique(levels=(0.0,) * config.num_variations)
    lanes = stack_lanes([(config, technique)] * len(seeds), seeds)
    count = num_iterations or config.num_iterations
    program = make_device_program(task, ALGORITHMS[algorithm], chunk=count, devices=devices)
    content = program.world.content(lanes, 0)
    start, stop = np.int32(0), np.int32(count)
    carry = program.learner.init(lanes, content)
    lower = program.learner.train.lower  # pyright: ignore[reportFunctionMemberAccess]
    tracing, lowered = timed(lambda: lower(lanes, carry, content, start, stop))
    compiling, compiled = timed(lowered.compile)
    suite = make_episodes(task, evaluation_key(0), (0.0,), 128)
    reached: list[float] = []

    def train_all() -> Any:
        return jax.block_until_ready(
            compiled(lanes, program.learner.init(lanes, content), content, start, stop)
        )

    def run() -> dict[str, Any]:
        seconds, (carry, metrics) = timed(train_all)
        if not reached:
            played = program.evaluate(lanes, program.learner.params(lanes, carry), suite)
            reached.append(float(played.returns[:num_seeds, 0].mean()))
        # A population that has used its budget rests, so that less than was asked for is done.
        assert "active" not in metrics or metrics["active"][:num_seeds].all()
        steps = int(metrics["env_steps"][:num_seeds, -1].sum())
        return {"steps": steps, "seconds": seconds, "return": round(reached[0], 1)}

    return run, {
        "compile_seconds": tracing + compiling, "trace_seconds": tracing,
        "num_devices": len(devices), "return_of": "final policies, greedy, 128 episodes",
    }


class Begun(NamedTuple):
    """Lanes that have trained a little, so that what they do is what most of training does."""

    task: Task
    make_algorithm: Any
    lanes: Lanes
    program: Program
    content: Any
    carry: Carry
    iteration: int


def _begin(algorithm: str, environment: str, num_lanes: int, pooled: bool) -> Begun:
    config = _config(algorithm, environment, _pooled(algorithm, environment) if pooled else {})
    task, make_algorithm = make_task(environment), ALGORITHMS[algorithm]
    levels = (0.0,) if pooled else MULTI_LEVELS
    technique = Technique(levels=levels, agreement=0.0 if pooled else 1.0)
    padded = num_lanes + -num_lanes % jax.device_count()
    lanes = stack_lanes([(config, technique)] * padded, list(range(padded)))
    program = make_device_program(task, make_algorithm, chunk=CHUNK)
    content = program.world.content(lanes, 0)
    carry = program.learner.init(lanes, content)
    iteration = max(1, round(WARM_UP_SHARE * config.num_iterations))
    for start in range(0, iteration, CHUNK):
        stop = np.int32(min(start + CHUNK, iteration))
        carry, _ = program.learner.train(lanes, carry, content, np.int32(start), stop)  # pyright: ignore
    return Begun(task, make_algorithm, lanes, program, content, carry, iteration)


def iterate(algorithm: str, environment: str, num_lanes: int, num_updates: int) -> tuple[Run, dict]:
    """Time whole iterations of training; a step is one iteration of one lane."""
    begun = _begin(algorithm, environment, num_lanes, pooled=False)
    state = [begun.carry, begun.iteration]

    def go_on() -> None:
        carry, start = state
        for first in range(start, start + num_updates, CHUNK):
            stop = np.int32(min(first + CHUNK, start + num_updates))
            carry, _ = begun.program.learner.train(
                begun.lanes, carry, begun.content, np.int32(first), stop  # pyright: ignore
            )
        state[:] = jax.block_until_ready(carry), start + num_updates

    def run() -> dict[str, Any]:
        return {"seconds": timed(go_on)[0], "steps": num_lanes * num_updates}

    return run, {}


def update(
    algorithm: str, environment: str, num_lanes: int, pooled: bool, num_updates: int
) -> tuple[Run, dict]:
    """Time ``update`` alone, on rollouts of a policy that has begun to learn.

    Args:
      algorithm: registry name.
      environment: registry name.
      num_lanes: lanes, split over all devices.
      pooled: one gradient of the pooled batch, of as many samples, in place of three and their
        agreement: a single variation with three times the environments.
      num_updates: calls of ``update`` in one turn.
    """
    begun = _begin(algorithm, environment, num_lanes, pooled)

    task = begun.task

    def built(lane: Lanes) -> Any:
        return begun.make_algorithm(lane.config, lane.technique, task.spec)

    def act_once(lane: Lanes, state: Any, env_params: Any) -> tuple[Any, Any]:
        keys = iteration_keys(0, lane.seed, begun.iteration)
        actor = built(lane).prepare(state, jnp.int32(begun.iteration), keys.prepare)
        episodes = start_episodes(task.environment, env_params, built(lane), keys.start)
        return actor, collect(
            task.environment, env_params, built(lane), actor, episodes, keys.collect
        )[1]

    def learn(lane: Lanes, state: Any, actor: Any, rollout: Any) -> Any:
        key = stream_key(0, lane.seed, "train")

        def step(number: jax.Array, state: Any) -> Any:
            own_key = jax.random.fold_in(key, number)
            return built(lane).update(state, actor, rollout, number, own_key)[0]

        stop = begun.iteration + num_updates
        return jax.lax.fori_loop(begun.iteration, stop, step, state)

    state = begun.carry.state
    actor, rollout = _lanes_over_devices(act_once)(begun.lanes, state, begun.content)
    arguments = jax.device_put(
        (begun.lanes, state, actor, rollout), split_over(jax.devices())
    )
    compiling, compiled = timed(lambda: _lanes_over_devices(learn).lower(*arguments).compile())

    def run() -> dict[str, Any]:
        seconds, _ = timed(lambda: jax.block_until_ready(compiled(*arguments)))
        return {"steps": num_lanes * num_updates, "seconds": seconds}

    return run, {"compile_seconds": compiling}


def _lanes_over_devices(function: Any) -> Any:
    return jax.jit(over_devices(jax.vmap(function), jax.devices()))


def _config(
    algorithm: str, environment: str, overrides: dict[str, Any]
) -> configuration.Config:
    config = configuration.replace(preset(algorithm, environment), overrides)
    config.validate()
    return config


def _pooled(algorithm: str, environment: str) -> dict[str, Any]:
    """Overrides that make one variation of three: as many samples in a rollout and in a batch."""
    config = preset(algorithm, environment)
    changes = {"num_variations": 1, "num_envs": config.num_variations * config.num_envs}
    if isinstance(config, configuration.DQNConfig):
        changes["batch_size"] = config.num_variations * config.batch_per_variation
    return changes

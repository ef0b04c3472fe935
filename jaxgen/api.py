"""Train and evaluate from Python: the same functions that the matrix runs."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.agent import Agent
from jaxgen.algorithms import ALGORITHMS
from jaxgen.config import SHIFT_LEVELS, Config, base_algorithm, preset, replace
from jaxgen.evaluation.episodes import MODES, Suite, episode_returns, greedy, make_suite
from jaxgen.evaluation.scores import score_curve
from jaxgen.results import make_references
from jaxgen.study import Evaluation
from jaxgen.techniques import ES_ALIASES, canonical_name, make_technique
from jaxgen.training import budget_spent, evaluation_key, make_program, segments, stack_lanes
from jaxgen.types import Array, Task


def train(
    task: Task,
    algorithm: str,
    technique: str = "baseline",
    seeds: Sequence[int] = (0,),
    config: Config | None = None,
    **overrides: Any,
) -> list[Agent]:
    """Train one agent per seed, all in one compiled program.

    Args:
      task: environment and variations, e.g. ``envs_jax.make_task("cartpole")``.
      algorithm: registry name or preset: ppo, dqn, es, ...
      technique: baseline, reg, gar, dr, composed with ``+``.
      seeds: training seeds; agent i is the same whatever the others are.
      config: hyper-parameters; None: the preset of the task's environment.
      **overrides: fields of the configuration, e.g. ``total_steps=10_000``.

    Raises:
      ValueError: a name, a seed or a hyper-parameter is not allowed.
    """
    technique = _trained_name(algorithm, technique)
    config = replace(preset(algorithm, task.spec.name) if config is None else config, overrides)
    config.validate()
    # Padded so that the lanes can be split over all devices.
    padded = list(seeds) + [seeds[-1]] * (-len(seeds) % jax.local_device_count())
    lanes = stack_lanes([(config, make_technique(technique))] * len(padded), padded)
    make_algorithm = ALGORITHMS[base_algorithm(algorithm)]
    program = make_program(task, make_algorithm, chunk=config.curve_iterations)
    content = program.content(lanes, 0)
    carry = program.init(lanes, content)
    for segment in segments(config, task.refresh_steps, program.chunk):
        if segment.start and segment.fresh_content:
            content = program.content(lanes, segment.epoch)
        carry, metrics = program.train(lanes, carry, content, segment.start, segment.stop)
        if budget_spent(config, metrics, segment):
            break
    params = np.asarray(program.params(lanes, carry))
    return [
        Agent(algorithm, technique, config, task.spec, params[i], seed)
        for i, seed in enumerate(seeds)
    ]


def evaluate(
    agent: Agent,
    task: Task,
    shift_levels: Sequence[float] = SHIFT_LEVELS,
    *,
    mode: str = "greedy",
    episodes: int = 1000,
    study_seed: int = 0,
) -> np.ndarray:
    """Returns of an agent over the fixed evaluation episodes, float32 ``[levels, episodes]``.

    Args:
      agent: from `train` or `load_agent`.
      task: its task.
      shift_levels: variation levels in [0, 1].
      mode: greedy or sampled.
      episodes: per level, common to all agents.
      study_seed: chooses the episodes.

    Raises:
      ValueError: an unknown mode or a level outside [0, 1].
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; allowed: {', '.join(MODES)}")
    Evaluation(tuple(shift_levels), episodes).validate()
    suite = make_suite(task, evaluation_key(study_seed), tuple(shift_levels), episodes)
    return _returns(agent, task, suite, mode)


def compute_grs(
    agent: Agent,
    task: Task,
    shift_levels: Sequence[float] = SHIFT_LEVELS,
    *,
    mode: str = "greedy",
    episodes: int = 1000,
    study_seed: int = 0,
) -> dict[str, Any]:
    """Generalization Robustness Score of an agent, with all scores that belong beside it.

    Arguments and errors as in `evaluate`.

    Returns:
      ``grs`` (literal), ``A``, ``A_id``, ``A_ood``, ``grs_n``, ``uplift``, ``gap``, ``s``,
      ``valid`` and ``reason`` (see `jaxgen.evaluation.scores.Scores`), and the mean ``returns``,
      ``floor`` and ``ceiling`` at each of ``levels``.
    """
    levels = tuple(shift_levels)
    evaluation = Evaluation(levels, episodes)
    evaluation.validate()
    references = make_references(task, evaluation, evaluation_key(study_seed))
    returns = evaluate(
        agent, task, levels, mode=mode, episodes=episodes, study_seed=study_seed
    ).astype(np.float64)
    scores = score_curve(
        levels, returns.mean(1), references.floor, references.ceiling,
        returns[0].std(ddof=1) / episodes**0.5, references.floor_standard_error[0],
    )
    return scores.to_dict() | {
        "levels": list(levels),
        "returns": returns.mean(1).tolist(),
        "floor": references.floor.tolist(),
        "ceiling": references.ceiling.tolist(),
    }


def _returns(agent: Agent, task: Task, suite: Suite, mode: str) -> np.ndarray:
    def act(params: Array, obs: Array, uniform: Array) -> Array:
        functions = agent.functions()
        preferences = functions.preferences(params, obs)
        return greedy(preferences) if mode == "greedy" else functions.sample(preferences, uniform)

    @jax.jit
    def run(params: Array, suite: Suite) -> Array:
        limit = task.spec.max_episode_steps
        return episode_returns(
            task.environment, suite, lambda obs, uniform: act(params, obs, uniform), limit
        )

    return np.asarray(run(jax.numpy.asarray(agent.params), suite))


def _trained_name(algorithm: str, technique: str) -> str:
    name = canonical_name(technique)
    return ES_ALIASES.get(name, name) if base_algorithm(algorithm) == "es" else name

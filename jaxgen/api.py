"""Train and evaluate from Python: the same functions that the matrix runs."""

import gc
from collections import deque
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.references import make_references
from jaxgen.evaluation.returns import score_returns
from jaxgen.evaluation.scores import check_levels
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.study.cards import ENVIRONMENT_CARDS
from jaxgen.study.cards.base import Observed
from jaxgen.study.config import SHIFT_LEVELS, Config, replace
from jaxgen.study.presets import base_algorithm, check_defined, preset, setups_of, trained_name
from jaxgen.study.product import check_seeds, least_s0
from jaxgen.study.programs import program_key
from jaxgen.study.spec import MODES, Evaluation
from jaxgen.system import platform
from jaxgen.system.options import computing
from jaxgen.techniques import Technique, canonical_name, make_technique
from jaxgen.training.build import make_program
from jaxgen.training.fit import fit, in_turns, needed_devices, padded
from jaxgen.training.keys import evaluation_key
from jaxgen.training.loop import iterate
from jaxgen.training.program import Program, stack_lanes
from jaxgen.types import HostTask, Task


@computing()
def train(
    task: Task | HostTask,
    algorithm: str,
    technique: str = "baseline",
    seeds: Sequence[int] = (0,),
    config: Config | None = None,
    **overrides: Any,
) -> list[Agent]:
    """Train one agent per seed, together in one compiled program as far as memory allows.

    Args:
      task: environment and variations, e.g. ``envs_jax.make_task("cartpole")``.
      algorithm: registry name or preset: ppo, dqn, es, ...
      technique: baseline, reg, gar, dr or another one of `jaxgen.techniques.COMPONENTS`,
        composed with ``+``. ES knows no gradients to agree
        on: its gar arms are trained, and named, as the arms that they are aliases of.
      seeds: training seeds; on a CPU agent i is the same, bit by bit, whatever the others are.
      config: hyper-parameters of this algorithm; None: the preset of the task's environment. An
        environment of your own has none: pass that of one like it, ``preset("ppo", "cartpole")``.
      **overrides: fields of the configuration, e.g. ``total_steps=10_000``.

    Raises:
      ValueError: a name, a seed or a hyper-parameter is not allowed, memory holds no lane, or
        jaxlib is one that computes wrong numbers on a CPU.
    """
    _check_platform()
    check_defined(canonical_name(technique), algorithm)
    technique = trained_name(technique, algorithm)
    check_seeds(seeds)
    config = _own_config(algorithm, task, config, overrides)
    base, arm = base_algorithm(algorithm), (config, make_technique(technique))
    program = _program(task, base, arm, len(seeds))
    params = [
        _train_together(program, arm, turn)
        for turn in _turns(program, arm, seeds, f"{algorithm} on {task.spec.name}")
    ]
    spec = task.spec.stacked(config.num_frames)
    return [
        Agent(algorithm, technique, config, spec, lane_params, seed)
        for seed, lane_params in zip(seeds, np.concatenate(params), strict=True)
    ]


@computing()
def evaluate(
    agent: Agent,
    task: Task | HostTask,
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
      shift_levels: variation levels in [0, 1], 0 first and increasing.
      mode: greedy or sampled.
      episodes: per level, 2 or more, common to all agents.
      study_seed: chooses the episodes.

    Raises:
      ValueError: an unknown mode, levels or a number of episodes that are not as above, an
        agent of another environment, or one whose training diverged.
    """
    _check_platform()
    _check_agent(agent, task, mode)
    levels = tuple(shift_levels)
    Evaluation(levels, episodes).validate()
    suite = make_suite(task, evaluation_key(study_seed), levels, episodes)
    return _returns(agent, suite, mode)


@computing()
def compute_grs(
    agent: Agent,
    task: Task | HostTask,
    shift_levels: Sequence[float] = SHIFT_LEVELS,
    *,
    mode: str = "greedy",
    episodes: int = 1000,
    study_seed: int = 0,
) -> dict[str, Any]:
    """Generalization Robustness Score of an agent, with all scores that belong beside it.

    Arguments and errors as in `evaluate`; in addition the levels end with 1.

    Returns:
      ``grs`` (literal), ``A``, ``A_id``, ``A_ood``, ``grs_n``, ``uplift``, ``gap``, ``s``,
      ``valid`` and ``reason`` (see `jaxgen.evaluation.scores.Scores`), and the mean ``returns``,
      ``floor`` and ``ceiling`` at each of ``levels``.
    """
    _check_platform()
    _check_agent(agent, task, mode)
    levels = tuple(shift_levels)
    evaluation = Evaluation(levels, episodes, min_s0=least_s0(task.spec.name))
    evaluation.validate()
    check_levels(levels)
    references = make_references(task, evaluation, evaluation_key(study_seed))
    returns = _returns(agent, references.suite, mode).astype(np.float64)
    return score_returns(evaluation, references, returns).to_dict() | {
        "levels": list(levels),
        "returns": returns.mean(1).tolist(),
        "floor": references.floor.tolist(),
        "ceiling": references.ceiling.tolist(),
    }


_programs: dict[Any, Program] = {}
"""Those that were made last, by what they are compiled for, so that other arms and seeds find what
is compiled."""
MAX_PROGRAMS = 8


def _program(
    task: Task | HostTask, base: str, arm: tuple[Config, Technique], num_seeds: int
) -> Program:
    devices = needed_devices(num_seeds)
    key = task, base, program_key(*arm), len(devices)
    program = _programs.pop(key, None) or make_program(
        task, ALGORITHMS[base], stack_lanes([arm], [0]), devices=devices
    )
    _programs[key] = program
    while len(_programs) > MAX_PROGRAMS:
        _programs.pop(next(iter(_programs)), None)
    return program


def _turns(
    program: Program, arm: tuple[Config, Technique], seeds: Sequence[int], label: str
) -> list[list[int]]:
    """The seeds that train together, as many as the matrix would take."""
    fit_result = fit(program.capacity, stack_lanes([arm], [0]), len(seeds))
    if not fit_result.fits:
        raise ValueError(f"{label}: {fit_result}; {fit_result.remedy()}")
    return in_turns(seeds, min(fit_result.asked, fit_result.fits))


def _train_together(
    program: Program, arm: tuple[Config, Technique], seeds: list[int]
) -> np.ndarray:
    """The parameters ``[L, D]`` at the end of the training of these seeds."""
    padded_seeds = padded(seeds, program.capacity)
    lanes = stack_lanes([arm] * len(padded_seeds), padded_seeds)
    last = deque(iterate(program, lanes), maxlen=1)[0]
    return np.asarray(program.learner.params(lanes, last.carry))[: len(seeds)]


def _check_platform() -> None:
    """Raise ValueError for a jaxlib that is known to be wrong here; starts JAX.

    Lets go of compiled programs, before a search in this process has made too many.
    """
    platform.confirm_backend(allow_known_bad=platform.known_bad_allowed)
    if platform.many_mappings():
        jax.clear_caches()
        gc.collect()


def _returns(agent: Agent, suite: Suite, mode: str) -> np.ndarray:
    policy, num_frames = agent.functions().policy, agent.config.num_frames
    return suite.returns(policy, agent.params, mode == "sampled", num_frames)


def _own_config(
    algorithm: str, task: Task | HostTask, config: Config | None, overrides: dict[str, Any]
) -> Config:
    if config is None:
        _check_known(algorithm, task)
        config = preset(algorithm, task.spec.name)
    if config.algorithm != base_algorithm(algorithm):
        raise ValueError(
            f"a configuration of {config.algorithm} is not one of {algorithm}; "
            f"start from jaxgen.preset({algorithm!r}, {task.spec.name!r})"
        )
    config = replace(config, overrides)
    config.validate()
    return config


def _check_known(algorithm: str, task: Task | HostTask) -> None:
    setups = setups_of(base_algorithm(algorithm))
    if task.spec.name not in setups:
        alike = (name for name in setups if _shows_images(name) == task.spec.is_image)
        example = next(alike, "cartpole")
        raise ValueError(
            f"{algorithm} has no configuration for environment {task.spec.name!r}; start from that "
            f"of one like it: config=jaxgen.preset({algorithm!r}, {example!r})"
        )


def _shows_images(environment: str) -> bool:
    return ENVIRONMENT_CARDS[environment].task.observed is Observed.IMAGES


def _check_agent(agent: Agent, task: Task | HostTask, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; allowed: {', '.join(MODES)}")
    if agent.spec != task.spec.stacked(agent.config.num_frames):
        raise ValueError(
            f"an agent of {agent.spec.name} cannot act in {task.spec.name}; "
            "make the task that it was trained on"
        )
    if not np.isfinite(agent.params).all():
        raise ValueError(
            f"the parameters of {agent.algorithm} with seed {agent.seed} are not finite: its "
            "training diverged, so that it has no returns; lower the learning rate"
        )

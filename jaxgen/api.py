"""Train and evaluate from Python: the same functions that the matrix runs."""

import gc
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.evaluation.agent import Agent, check_fits, returns_of, start_vector
from jaxgen.evaluation.policy import checked_choices
from jaxgen.evaluation.references import make_references
from jaxgen.evaluation.returns import score_returns
from jaxgen.evaluation.scores import check_levels
from jaxgen.evaluation.suite import make_suite
from jaxgen.evaluation.tasks import check_task
from jaxgen.nn.networks import check_readable
from jaxgen.report.outputs import write_outputs
from jaxgen.results import table
from jaxgen.results.code import check_code
from jaxgen.results.lock import locked
from jaxgen.results.result import fault_of
from jaxgen.results.store import open_store
from jaxgen.running import runner, together
from jaxgen.running.kinds.matrix import KIND as MATRIX
from jaxgen.running.watching.console import Console
from jaxgen.running.workers.units import expected_runs
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card, registry_name
from jaxgen.study.cards.base import Observed
from jaxgen.study.config import (
    SHIFT_LEVELS,
    Config,
    EpisodicConfig,
    from_dict,
    replace,
    to_dict,
)
from jaxgen.study.presets import (
    algorithm_card,
    base_algorithm,
    check_defined,
    preset,
    setups_of,
    trained_name,
)
from jaxgen.study.product import Study, check_seed, check_seeds, least_s0
from jaxgen.study.spec import MODES, Evaluation, check_range
from jaxgen.system import platform
from jaxgen.system.errors import BadInput
from jaxgen.system.options import computing
from jaxgen.system.values import at_least, numbers, whole
from jaxgen.techniques import canonical_name, make_technique
from jaxgen.training.keys import evaluation_key
from jaxgen.types import Array, Codes, HostTask, Task, is_host

AnyTask = str | Task | HostTask
"""A task, or its registry name."""


def train(
    task: AnyTask,
    algorithm: str,
    technique: str = "baseline",
    seeds: int | Iterable[int] = (0,),
    config: Config | None = None,
    progress: bool = False,
    start: Agent | None = None,
    **overrides: Any,
) -> list[Agent]:
    """Train one agent per seed, together in one compiled program as far as memory allows.

    Args:
      task: environment and variations by registry name, e.g. ``"cartpole"``, or as an object, e.g.
        ``envs_jax.make_task("cartpole")``.
      algorithm: registry name or preset: ppo, dqn, es, ...
      technique: baseline, reg, gar, dr or another one of `jaxgen.techniques.COMPONENTS`,
        composed with ``+``. ES knows no gradients to agree
        on: its gar arms are trained, and named, as the arms that they are aliases of.
      seeds: training seeds, a sequence or an array, or how many: 3 are the seeds 0, 1 and 2. On a
        CPU agent i is the same, bit by bit, whatever the others are.
      config: hyper-parameters of this algorithm; None: the preset of the task's environment. An
        environment of your own has none: pass that of one like it, ``preset("ppo", "cartpole")``.
        With ``start`` None is the agent's own.
      progress: print how far the training is.
      start: an agent of this algorithm whose policy each seed begins with; what judges actions
        (but PPO's value, which is in the same networks), moments of optimisers and a replay are
        new. None: new networks.
      **overrides: fields of the configuration, e.g. ``total_steps=10_000``.

    Returns:
      Agents in the order of the seeds. A warning names one whose training diverged; its ``fault``
      says how.

    Raises:
      ValueError: the task is not as its protocol says, a name, a seed or a hyper-parameter is not
        allowed, memory holds no lane, or jaxlib is one that computes wrong numbers on a CPU.
    """
    _check_platform()
    with computing():
        made = _task(task, start)
        if start is not None:
            config = start.config if config is None else config
        arm = algorithm, technique, config
        return _train(made, *arm, _seeds(seeds), progress, start, overrides)


def _train(
    task: Task | HostTask, algorithm: str, technique: str, config: Config | None,
    seeds: Sequence[int], progress: bool, start: Agent | None, overrides: dict[str, Any],
) -> list[Agent]:
    check_defined(canonical_name(technique), algorithm)
    technique = trained_name(technique, algorithm)
    config = _own_config(algorithm, task, config, overrides)
    arm = config, make_technique(technique)
    label = f"{algorithm} on {task.spec.name}"
    base, vector = base_algorithm(algorithm), None
    if start is not None:
        _check_agent(start, task, MODES[0])
        vector = start_vector(start, task, base, base)
    console = Console() if progress else None
    trained = together.train(task, base, arm, seeds, label, console, vector)
    spec = task.spec.stacked(config.num_frames)
    agents = []
    for seed, (params, history) in zip(seeds, trained, strict=True):
        fault = fault_of(params, history)
        if fault:
            warnings.warn(f"{label} with seed {seed} diverged: {fault}", stacklevel=3)
        agents.append(
            Agent(algorithm, technique, config, spec, params, seed, fault, history=history)
        )
    return agents


def evaluate(
    agent: Agent | Callable[[np.ndarray], Any],
    task: AnyTask,
    shift_levels: Iterable[float] = SHIFT_LEVELS,
    *,
    mode: str = "greedy",
    episodes: int = 1000,
    study_seed: int = 0,
) -> np.ndarray:
    """Returns of an agent over the fixed evaluation episodes, float32 ``[levels, episodes]``.

    Args:
      agent: from `train` or `load_agent`; or any function of observations in numpy ``[N,
        *obs_shape]`` that gives N actions as the environment takes them, from wherever it comes.
      task: its task, by registry name or as an object.
      shift_levels: variation levels in [0, 1], in any order.
      mode: greedy or sampled; a function plays as it does.
      episodes: per level, 2 or more, common to all agents.
      study_seed: chooses the episodes.

    Raises:
      ValueError: an unknown mode, levels or a number of episodes that are not as above, an
        agent of another environment, or one whose training diverged.
    """
    _check_platform()
    with computing():
        known = agent if isinstance(agent, Agent) or not callable(agent) else None
        made = _task(task, known)
        if known is not None:
            _check_agent(known, made, mode)
        levels, key = _levels(shift_levels), _evaluation_key(study_seed)
        suite = make_suite(made, key, levels, at_least(2, "episodes", episodes))
        if known is None:
            choose: Any = agent
            return np.asarray(suite.play_by(checked_choices(choose, made.spec)).returns)
        return returns_of(known, suite, mode)


def compute_grs(
    agent: Agent,
    task: AnyTask,
    shift_levels: Iterable[float] = SHIFT_LEVELS,
    *,
    mode: str = "greedy",
    episodes: int = 1000,
    study_seed: int = 0,
) -> dict[str, Any]:
    """Generalization Robustness Score of an agent, with all scores that belong beside it.

    Arguments and errors as in `evaluate`; in addition the levels increase from 0 to 1. ``A_ood`` is
    None unless .75 and 1 are among them.

    Returns:
      ``grs`` (literal), ``A``, ``A_id``, ``A_ood``, ``grs_n``, ``uplift``, ``gap``, ``s``,
      ``valid`` and ``reason`` (see `jaxgen.evaluation.scores.Scores`), and the mean ``returns``,
      ``floor`` and ``ceiling`` at each of ``levels``.
    """
    _check_platform()
    with computing():
        made = _task(task, agent)
        _check_agent(agent, made, mode)
        levels = numbers("shift_levels", shift_levels)
        episodes = at_least(0, "episodes", episodes)
        evaluation = Evaluation(levels, episodes, min_s0=least_s0(made.spec.name))
        evaluation.validate()
        check_levels(evaluation.levels)
        references = make_references(made, evaluation, _evaluation_key(study_seed))
        returns = returns_of(agent, references.suite, mode).astype(np.float64)
    return score_returns(evaluation, references, returns).to_dict() | {
        "levels": list(evaluation.levels),
        "returns": returns.mean(1).tolist(),
        "floor": references.floor.tolist(),
        "ceiling": references.ceiling.tolist(),
    }


def run_study(
    study: Study, out: str | Path = "results", *, plots: bool = True, quiet: bool = False
) -> list[dict[str, Any]]:
    """Train and evaluate what a folder lacks of a study, and write all tables and figures.

    Args:
      study: e.g. ``make_study(["cartpole"], ["ppo"], ["baseline", "dr"], seeds=[0, 1])``.
      out: the results folder, which the command line reads as well; what is done there is kept, and
        an interrupted study goes on.
      plots: draw the figures.
      quiet: print nothing but what matters.

    Returns:
      A row per run, level and mode, as in ``results.csv``: ``pandas.DataFrame(rows)``.

    Raises:
      ValueError: the folder holds something else, another process uses it, or memory holds no lane.
    """
    import envs_jax

    _check_platform()
    store = open_store(out)
    plan = expected_runs(study)
    with locked(store):
        check_code(study, store)
        runner.run_study(study, store, envs_jax.make_task, Console(quiet), MATRIX)
        records, left_aside = write_outputs(store, plan, plots)
    for line in left_aside:
        warnings.warn(f"left aside: {line}", stacklevel=2)
    names = {name for name, _ in plan}
    return table.rows(record for record in records if record.name in names)


def _task(task: AnyTask, agent: Agent | None = None) -> Task | HostTask:
    """A task that was named, with the options that an agent was trained with, or given and
    checked."""
    if isinstance(task, str):
        import envs_jax

        options = environment_card(task).task.options
        if isinstance(agent, Agent) and agent.spec.name == registry_name(task):
            options = options if agent.task_options is None else agent.task_options
        return envs_jax.make_task(task, **options)
    check_task(task)
    return task


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """The seeds themselves, where it was said how many."""
    number = whole(seeds)
    if number is None:
        return check_seeds(seeds)  # pyright: ignore[reportArgumentType]
    return check_seeds(range(at_least(1, "seeds", number)))


def _check_platform() -> None:
    """Raise ValueError for a jaxlib that is known to be wrong here; sets up JAX, and starts it.

    Lets go of compiled programs, before a search in this process has made too many.
    """
    platform.configure_if_new()
    platform.confirm_backend(allow_known_bad=platform.known_bad_allowed)
    if platform.many_mappings():
        jax.clear_caches()
        gc.collect()


def _own_config(
    algorithm: str, task: Task | HostTask, config: Config | None, overrides: dict[str, Any]
) -> Config:
    """The configuration that is trained, checked for this algorithm and this task."""
    name = task.spec.name
    if config is None:
        if name not in setups_of(base_algorithm(algorithm)):
            raise BadInput(
                f"{algorithm} has no configuration for environment {name!r}; "
                + _advice(algorithm, task)
            )
        config = preset(algorithm, name)
    _check_named(algorithm, task, config)
    config = from_dict(type(config), to_dict(config) | overrides)
    config.validate()
    _check_suits(config, task)
    if config.plateau_points:
        raise BadInput(
            f"plateau_points = {config.plateau_points} is not allowed here, where no learning "
            "curve is evaluated; use run_study"
        )
    return config


def _check_named(algorithm: str, task: Task | HostTask, config: Config) -> None:
    """Raise BadInput unless a configuration is one of the algorithm, or preset, of this name."""
    card, fault = algorithm_card(algorithm), None
    if not isinstance(config, Config):
        fault = f"config of type {type(config).__name__} is not allowed"
    elif config.algorithm != card.name:
        fault = f"a configuration of {config.algorithm} is not one of {algorithm}"
    else:
        # The budget is no more than a preset's proposal.
        lacking = [
            f"{key} = {value!r}" for key, value in card.variants.get(algorithm, {}).items()
            if key != "total_steps" and getattr(config, key) != value
        ]  # fmt: skip
        if lacking:
            fault = f"a configuration of {card.name} without {', '.join(lacking)} is no {algorithm}"
    if fault:
        raise BadInput(f"{fault}; {_advice(algorithm, task)}")


def _check_suits(config: Config, task: Task | HostTask) -> None:
    """Raise BadInput for a setting that the task's observations or episodes do not allow."""
    spec, card, fault = task.spec, algorithm_card(config.algorithm), None
    episodic = isinstance(config, EpisodicConfig) and spec.name not in setups_of(card.name)
    check_readable(spec, config.network)
    if config.num_frames > 1 and not is_host(task):
        fault = f"num_frames = {config.num_frames}", "1, as its images are not stacked"
    elif getattr(config, "encoding", "") == "one_hot" and not isinstance(spec.observation, Codes):
        fault = "encoding = 'one_hot'", "raw or unit, as its observations are no Codes"
    elif episodic and config.num_steps < spec.max_episode_steps:
        # Returns are those of rollouts; without a preset nobody has chosen a part of it.
        fault = f"num_steps = {config.num_steps}", f"{spec.max_episode_steps}, a whole episode"
    if fault:
        raise BadInput(f"{card.name}: {fault[0]} is not allowed on {spec.name}; use {fault[1]}")


def _advice(algorithm: str, task: Task | HostTask) -> str:
    """A configuration that will do, in words."""
    spec, card = task.spec, algorithm_card(algorithm)
    setups = setups_of(card.name)
    if spec.name in setups:
        return f"start from config=jaxgen.preset({algorithm!r}, {spec.name!r})"
    for name in sorted(setups, key=lambda name: _shows_images(name) != spec.is_image):
        changes = {} if is_host(task) else {"num_frames": 1}
        if issubclass(card.config, EpisodicConfig):
            changes["num_steps"] = spec.max_episode_steps
        try:
            config = preset(algorithm, name)
            _check_suits(replace(config, changes), task)
        except BadInput:
            continue
        words = [f"config=jaxgen.preset({algorithm!r}, {name!r})"]
        words += [f"{key}={new}" for key, new in changes.items() if getattr(config, key) != new]
        return f"start from that of one like it: {', '.join(words)}"
    return f"{algorithm} has none that would do: pass config={card.config.__name__}(...)"


def _shows_images(environment: str) -> bool:
    card = ENVIRONMENT_CARDS.get(environment)
    return card is not None and card.task.observed is Observed.IMAGES


def _levels(levels: Iterable[float]) -> tuple[float, ...]:
    """Levels to be played, checked."""
    checked = numbers("shift_levels", levels)
    check_range(checked)
    if not checked:
        raise BadInput("shift_levels is empty; name a level, e.g. 0")
    return checked


def _evaluation_key(study_seed: int) -> Array:
    return evaluation_key(check_seed("study_seed", study_seed))


def _check_agent(agent: Agent, task: Task | HostTask, mode: str) -> None:
    if not isinstance(agent, Agent):
        raise BadInput(
            f"agent of type {type(agent).__name__} is not allowed; train returns a list with an "
            "agent for each seed: pass one of them"
        )
    if mode not in MODES:
        raise BadInput(f"unknown mode {mode!r}; allowed: {', '.join(MODES)}")
    check_fits(agent, task)

"""The files of one training's course, in the specified tree, made from what its run has kept."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.saving import load_agent
from jaxgen.evaluation.suite import Suite, make_suite
from jaxgen.report.practice import films, pictures
from jaxgen.report.practice.pictures import Curve, Titled
from jaxgen.report.style import to_png
from jaxgen.results.kept import agent_at, agent_of, best_agent_at
from jaxgen.results.store import Store
from jaxgen.study.cards import algorithm_title, figure_title, place_folder
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json
from jaxgen.training.keys import CURVE_PURPOSE, evaluation_key
from jaxgen.types import HostTask, Task

MAX_FRAMES = 250
"""Frames of an episode in a film: of a thousand steps every fourth is shown."""
ORIGIN = "origin.json"
"""Says which run a folder is of."""


class Course(NamedTuple):
    """A run whose training is shown."""

    spec: RunSpec
    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    """Its checkpoints, as shares of training."""
    name: str = ""
    """The folder's name; "": the run's hash."""

    @property
    def folder(self) -> str:
        """The folder below the results."""
        spec = self.spec
        place = place_folder(spec.algorithm, spec.environment)
        return f"{place}/{self.name or spec.name.rsplit('-', 1)[-1]}"

    @property
    def title(self) -> str:
        """Algorithm, arm and environment."""
        arm = "" if self.spec.arm == "baseline" else f", {self.spec.arm}"
        return f"{algorithm_title(self.spec.algorithm)}{arm}, {figure_title(self.spec.environment)}"

    def in_seed(self, seed: int) -> str:
        """The folder of a seed: one of several has its own."""
        return self.folder if len(self.seeds) == 1 else f"{self.folder}/seed_{seed:04d}"


class _Stage(NamedTuple):
    """The fixed episodes of an evaluation, and what random play returns in them."""

    task: Task | HostTask
    suite: Suite
    random: np.ndarray
    names: list[Any]
    """What tells each episode: a seed of the environment, or the words that it begins with."""


def check_folder(store: Store, course: Course) -> None:
    """Raise BadInput where the course's folder is of another run, before anything is trained."""
    path = store.path(f"{course.folder}/{ORIGIN}")
    # One that is missing or damaged is written again.
    with suppress(DamagedFile):
        other = load_json(path).get("run")
        if other != course.spec.name:
            raise BadInput(
                f"{path.parent} is of run {other}, not of {course.spec.name}; give another --name"
            )


def write_course(
    store: Store, course: Course, make_task: Callable[..., Task | HostTask], plots: bool = True
) -> list[str]:
    """Write all files of a course that are not there yet, and the figures anew.

    Args:
      store: with the results of the run; the caller holds its lock.
      course: which run.
      make_task: (registry name, **options) -> Task.
      plots: draw figures and films.

    Returns:
      A line for each checkpoint, and what was left aside.
    """
    spec, folder = course.spec, course.folder
    task = make_task(spec.environment, **spec.task_options)
    stage = _stage(task, spec, 0, spec.evaluation.episodes)
    store.write_json(f"{folder}/{ORIGIN}", {"run": spec.name, "spec": spec.to_dict()})
    store.write_json(f"{folder}/seeds.json", {
        "evaluation": stage.names,
        "learning_curve": _names(_suite(
            task, spec, CURVE_PURPOSE, spec.evaluation.curve_episodes
        )),
        "training": list(course.seeds),
    })  # fmt: skip
    _write_npz(store, f"{folder}/random_baseline_rewards.npz", rewards=stage.random)
    lines, finished = [], {}
    for seed in course.seeds:
        try:
            finished[seed] = _write_seed(store, course, seed, stage, plots)
        except (DamagedFile, BadInput) as damage:
            lines.append(f"left aside: seed {seed}: {damage}")
    lines += _summary(course, finished, stage.random)
    if plots and finished:
        _draw(store, course, finished, stage.random)
    return [*lines, "", f"  all files of the training   {store.path(folder)}"]


class _Finished(NamedTuple):
    """A seed's curve, and by share the returns ``[E]`` at its checkpoints."""

    curve: Curve
    returns: dict[float, np.ndarray]


def _suite(task: Task | HostTask, spec: RunSpec, purpose: int, episodes: int) -> Suite:
    return make_suite(task, evaluation_key(spec.study_seed, purpose), (0.0,), episodes)


def _names(suite: Suite) -> list[Any]:
    if suite.level_seeds is not None:
        return suite.level_seeds[0].tolist()
    return np.asarray(suite.episodes.words)[0].tolist()


def _stage(task: Task | HostTask, spec: RunSpec, purpose: int, episodes: int) -> _Stage:
    suite = _suite(task, spec, purpose, episodes)
    return _Stage(task, suite, suite.random()[0], _names(suite))


def _write_seed(
    store: Store, course: Course, seed: int, stage: _Stage, plots: bool
) -> _Finished:
    """The files of one seed; DamagedFile: its results are not there, BadInput: it diverged."""
    spec, folder = course.spec, course.in_seed(seed)
    history = store.read_history(spec.name, seed)
    final = agent_of(store, spec.name, seed, 1.0)
    if fault := load_agent(final).fault:
        raise BadInput(f"it diverged: {fault}")
    curve = Curve(history["eval_env_steps"], history["eval_returns"][:, 0])
    _write_npz(
        store, f"{folder}/evaluations.npz", timesteps=curve.steps.astype(np.int64),
        results=curve.returns, ep_lengths=history["eval_lengths"][:, 0],
    )  # fmt: skip
    best = best_agent_at(store, spec, seed)
    for name, path in {"best_model": best, "final_model": final}.items():
        store.write_bytes(f"{folder}/{name}.npz", path.read_bytes())
    returns = {}
    for share in course.shares:
        # A run that went on from another one has checkpoints there that nobody asked for then.
        with suppress(DamagedFile):
            meta = _meta(course, seed, share, stage, history["env_steps"])
            returns[share] = _write_checkpoint(store, course, seed, meta, stage, plots)
    others, _ = _play(load_agent(best), stage.suite)
    point = int(np.argmax(curve.returns.mean(1)))
    # What the best point of the curve promised, and what its agent returns elsewhere.
    store.write_json(f"{folder}/best_model.json", {
        "env_steps": int(curve.steps[point]),
        "mean_on_the_episodes_that_it_was_chosen_by": float(curve.returns[point].mean()),
        "mean_on_others": float(others.mean()),
    })  # fmt: skip
    return _Finished(curve, returns)


def _write_checkpoint(
    store: Store, course: Course, seed: int, meta: dict[str, Any], stage: _Stage, plots: bool
) -> np.ndarray:
    """The files of a checkpoint; its returns ``[E]``. Those that are there already are kept."""
    spec, share = course.spec, meta["share"]
    folder = f"{course.in_seed(seed)}/checkpoints/{_percent(share)}"
    path = agent_at(store, spec, seed, share)
    data, meta = path.read_bytes(), meta | {"films": plots}
    done, rewards = store.path(f"{folder}/meta.json"), store.path(f"{folder}/trained_rewards.npz")
    agent = store.path(f"{folder}/agent.npz")
    with suppress(DamagedFile, OSError, ValueError, KeyError):
        before = load_json(done)
        if agent.read_bytes() == data and {name: before.get(name) for name in meta} == meta:
            with np.load(rewards) as arrays:
                return arrays["rewards"]
    trained = load_agent(path)
    returns, lengths = _play(trained, stage.suite)
    store.write_bytes(f"{folder}/agent.npz", data)
    _write_npz(store, f"{folder}/trained_rewards.npz", rewards=returns, lengths=lengths)
    if plots:
        title = Titled(f"{course.title}: after {meta['env_steps']:,} env steps", spec.quick)
        figures = {
            "boxplot_trained_vs_random": pictures.boxplot(returns, stage.random, title),
            "trained_rewards_hist": pictures.histogram(returns, title),
        }
        for name, figure in figures.items():
            store.write_bytes(f"{folder}/{name}.png", to_png(figure))
        meta["film"] = _write_film(store, folder, course, trained, stage)
    statistics = {
        "mean": float(returns.mean()), "std": float(returns.std()),
        "median": float(np.median(returns)),
    }  # fmt: skip
    # Last: where it is, all are.
    store.write_json(f"{folder}/meta.json", meta | statistics)
    return returns


def _percent(share: float) -> str:
    """The name of a checkpoint: 025, 050, 100."""
    return f"{100 * share:03.0f}" if round(100 * share, 6).is_integer() else f"{100 * share:g}"


def _meta(
    course: Course, seed: int, share: float, stage: _Stage, taken: np.ndarray
) -> dict[str, Any]:
    """The facts of a checkpoint; ``taken`` are the env steps after each iteration ``[I]``."""
    spec = course.spec
    # Where iterations do not count alike, the one that has reached the share.
    reached = min(np.searchsorted(taken, spec.config.steps_at(share)), len(taken) - 1)
    return {
        "algorithm": spec.algorithm, "environment": spec.environment, "arm": spec.arm,
        "run": spec.name, "seed": seed, "share": share,
        "env_steps": int(taken[reached]), "total_steps": spec.config.total_steps,
        "episodes": stage.names, "mode": "greedy",
    }  # fmt: skip


def _play(agent: Agent, suite: Suite) -> tuple[np.ndarray, np.ndarray]:
    """Greedy returns and lengths ``[E]`` at level 0."""
    played = suite.play(agent.functions().policy, agent.params, False, agent.config.num_frames)
    return np.asarray(played.returns)[0], np.asarray(played.lengths)[0]


def _write_film(
    store: Store, folder: str, course: Course, agent: Agent, stage: _Stage
) -> str:
    """Film the median episode; say what was filmed, or why nothing was."""
    spec = course.spec
    try:
        clips = films.film(
            agent, stage.task, evaluation_key(spec.study_seed), 0.0, spec.evaluation.episodes,
            picks=("median",), max_frames=MAX_FRAMES,
        )  # fmt: skip
    except BadInput as error:
        return str(error)
    ((what, clip),) = clips.items()
    films.write_film(store.path(f"{folder}/rollout.gif"), [clip])
    return f"{what}: return {clip.total:.5g}, {clip.length} steps"


def _draw(
    store: Store, course: Course, finished: Mapping[int, _Finished], random: np.ndarray
) -> None:
    """Figures of each seed, and of all of them."""
    for seed, each in finished.items():
        _draw_curves(store, course, course.in_seed(seed), [each], random)
    if len(finished) > 1:
        _draw_curves(store, course, course.folder, list(finished.values()), random)


def _draw_curves(
    store: Store, course: Course, folder: str, seeds: Sequence[_Finished], random: np.ndarray
) -> None:
    title, curves = Titled(course.title, course.spec.quick), [each.curve for each in seeds]
    shares = [share for share in course.shares if all(share in each.returns for each in seeds)]
    names = [f"{share:.0%}" for share in shares]
    returns = [np.stack([each.returns[share] for each in seeds]) for share in shares]
    figures = {
        "learning_curve": pictures.learning_curve(curves, title),
        "comparison": pictures.learning_curve(curves, title, random),
        "checkpoint_means_barplot": pictures.checkpoint_means(names, returns, random, title),
    }
    for name, figure in figures.items():
        store.write_bytes(f"{folder}/{name}.png", to_png(figure))


def _summary(
    course: Course, finished: Mapping[int, _Finished], random: np.ndarray
) -> list[str]:
    """A line for each seed: mean returns at the checkpoints."""
    head = "  ".join(f"{share:>9.0%}" for share in course.shares)
    lines = [f"{course.title} (greedy, {len(random)} episodes; random {random.mean():.5g})",
             f"  seed  {head}"]  # fmt: skip
    for seed, each in finished.items():
        means = [
            f"{each.returns[share].mean():>9.5g}" if share in each.returns else f"{'-':>9}"
            for share in course.shares
        ]
        lines.append(f"  {seed:>4}  {'  '.join(means)}")
    if any(len(each.returns) < len(course.shares) for each in finished.values()):
        lines.append("  -: no agent was kept there by the run that this one went on from")
    return lines


def _write_npz(store: Store, name: str, **arrays: np.ndarray) -> None:
    """Write arrays, whole or not at all."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
    store.write_bytes(name, stream.getvalue())

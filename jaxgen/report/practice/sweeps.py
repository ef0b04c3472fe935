"""The files of a sweep: a folder for each run, and curves of runs beside each other."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.saving import load_agent
from jaxgen.report.practice import films
from jaxgen.report.practice.course import MAX_FRAMES
from jaxgen.report.practice.pictures import draw_curves
from jaxgen.report.style import Curve, to_png
from jaxgen.results.kept import agent_of, best_agent_of
from jaxgen.results.store import Store
from jaxgen.study.cards import algorithm_title, figure_title
from jaxgen.study.kinds.sweep import folder_of, swept_values
from jaxgen.study.product import Study
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json, write_bytes
from jaxgen.training.keys import evaluation_key
from jaxgen.types import HostTask, Task

CURVES, ANALYSIS = "_plots_learning_curves", "_plots_grpo_g_analysis"
FUSED = "rollout and update are one compiled program"


class Drawing(NamedTuple):
    """A choice of figures, and the place where they lie."""

    folder: Path | None = None
    """Where figures lie; None: in the results."""
    limit: float | None = None
    """Env steps where axes end; None: where the curves do."""
    field: str = "group_size"
    """Whose values are beside each other in the analysis."""
    films: bool = True
    figures: bool = True


def write_sweep(
    store: Store, study: Study, make_task: Callable[..., Task | HostTask], drawing: Drawing
) -> list[str]:
    """Write the folders of finished runs, and figures of all of them; say what is missing."""
    curves: dict[str, list[Curve]] = {}
    missing, notes = [], []
    for spec, seed in study.lanes:
        try:
            curve = _write_run(store, spec, seed, make_task, drawing.films)
            curves.setdefault(spec.name, []).append(curve)
        except DamagedFile:
            missing.append(folder_of(spec, seed))
        except BadInput as error:
            notes.append(f"left aside: {folder_of(spec, seed)}: {error}")
    specs = [spec for group in study.groups for spec in group.specs if spec.name in curves]
    if drawing.figures:
        _draw(store, specs, curves, drawing)
    lines = _table(specs, curves)
    if missing:
        lines.append(f"missing: {len(missing)} of {len(study.lanes)} runs: {', '.join(missing)}")
    return [*lines, *notes, "", f"  a folder for each run   {store.root}"]


def _write_run(
    store: Store, spec: RunSpec, seed: int, make_task: Callable[..., Task | HostTask],
    with_films: bool,
) -> Curve:
    """The folder of a run; its learning curve. BadInput: it diverged."""
    folder, history = folder_of(spec, seed), store.read_history(spec.name, seed)
    returns = history["eval_returns"][:, 0]
    store.write_json(f"{folder}/metrics.json", {
        "run": spec.name, "seed": seed,
        "training": {
            "env_steps": history["env_steps"], "reward": _known(history["reward"]),
            "loss": _known(history["loss"]),
        },
        "evaluation": {
            "env_steps": history["eval_env_steps"], "returns": _known(returns),
            "lengths": history["eval_lengths"][:, 0],
        },
    })  # fmt: skip
    store.write_text(f"{folder}/logs/training.log", _log(history))
    store.write_text(f"{folder}/timings.jsonl", _timings(store.read_provenance(spec.name, seed)))
    final = agent_of(store, spec.name, seed, 1.0)
    fault = load_agent(final).fault
    if fault:
        raise BadInput(f"it diverged: {fault}")
    kept = {"final": final, "best": best_agent_of(store, spec.name, seed)}
    for name, path in kept.items():
        store.write_bytes(f"{folder}/checkpoints/{name}.npz", path.read_bytes())
    if with_films:
        _write_films(store, spec, seed, folder, make_task)
    return history["eval_env_steps"].astype(float), returns.mean(1, dtype=float)


def _known(values: np.ndarray) -> Any:
    """Values as JSON has them: NaN, where no episode ended, is null."""
    if values.ndim > 1:
        return [_known(row) for row in values]
    return [float(value) if np.isfinite(value) else None for value in values]


def _log(history: Mapping[str, np.ndarray]) -> str:
    """A line for each point of the learning curve."""
    lines = []
    for point, steps in enumerate(history["eval_env_steps"]):
        at = int(np.searchsorted(history["env_steps"], steps))
        at = min(at, len(history["env_steps"]) - 1)
        returns = history["eval_returns"][point, 0]
        lengths = history["eval_lengths"][point, 0]
        lines.append(
            f"env_steps {int(steps)}  reward {history['reward'][at]:.6g}  "
            f"loss {history['loss'][at]:.6g}  eval {returns.mean():.6g} +- {returns.std():.6g}  "
            f"length {lengths.mean():.6g}"
        )
    return "".join(f"{line}\n" for line in lines)


def _timings(provenance: Mapping[str, Any]) -> str:
    """A line for each part of the program's time, of which a run had one of its lanes."""
    lanes = provenance["lanes"]
    lines = [
        {"part": part, "seconds": seconds, "lanes": lanes, "per_lane": seconds / lanes}
        | ({"what": FUSED} if part == "train" else {})
        for part, seconds in provenance["seconds"].items()
    ]
    return "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines)


def _write_films(
    store: Store, spec: RunSpec, seed: int, folder: str,
    make_task: Callable[..., Task | HostTask],
) -> None:
    """Films of the best, the median and the worst evaluation episode, unless they are there."""
    said, run = f"{folder}/videos/films.json", {"run": spec.name, "seed": seed}
    path = store.path(said)
    if path.exists() and load_json(path).get("of") == run:
        return
    agent = load_agent(agent_of(store, spec.name, seed, 1.0))
    task = make_task(spec.environment, **spec.task_options)
    words: dict[str, Any] = {"of": run}
    try:
        episodes = min(spec.evaluation.episodes, spec.evaluation.curve_episodes)
        clips = films.film(
            agent, task, evaluation_key(spec.study_seed), 0.0, episodes, picks=films.PICKS,
            max_frames=MAX_FRAMES,
        )  # fmt: skip
    except BadInput as error:
        store.write_json(said, words | {"none": str(error)})
        return
    for pick, (what, clip) in zip(films.PICKS, clips.items(), strict=True):
        films.write_film(store.path(f"{folder}/videos/{pick}.gif"), [clip])
        words[pick] = f"{what}: return {clip.total:.5g}, {clip.length} steps"
    store.write_json(said, words)


# Figures and tables


def _draw(
    store: Store, specs: Sequence[RunSpec], curves: Mapping[str, list[Curve]], drawing: Drawing
) -> None:
    base = drawing.folder or store.root
    for (environment, algorithm), own in _by_place(specs).items():
        name = f"{environment.replace(':', '-')}_{algorithm}"
        title = f"{algorithm_title(algorithm)}, {figure_title(environment)}"
        labelled = {spec.arm: curves[spec.name] for spec in own}
        figure = draw_curves(labelled, title, own[0].quick, drawing.limit)
        write_bytes(base / CURVES / f"{name}.png", to_png(figure))
        by_value = swept_values(own, drawing.field)
        if len(by_value) > 1:
            pooled = {
                f"{drawing.field} = {value}": [
                    curve for spec in specs_of for curve in curves[spec.name]
                ]
                for value, specs_of in by_value.items()
            }
            figure = draw_curves(pooled, f"{title}: by {drawing.field}", own[0].quick,
                                 drawing.limit)  # fmt: skip
            write_bytes(base / ANALYSIS / f"{name}.png", to_png(figure))


def _by_place(specs: Iterable[RunSpec]) -> dict[tuple[str, str], list[RunSpec]]:
    places: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in specs:
        places.setdefault((spec.environment, spec.algorithm), []).append(spec)
    return places


def _table(specs: Sequence[RunSpec], curves: Mapping[str, list[Curve]]) -> list[str]:
    """The last point of each arm: mean and range over seeds."""
    width = max((len(spec.arm) for spec in specs), default=0)
    lines = []
    for (environment, algorithm), own in _by_place(specs).items():
        lines += ["", f"{algorithm_title(algorithm)}, {figure_title(environment)}: last point of "
                      "the learning curve, greedy"]  # fmt: skip
        for spec in own:
            ends = [values[-1] for _, values in curves[spec.name]]
            lines.append(
                f"  {spec.arm:{width}}  n={len(ends)}  {np.mean(ends):10.5g}  "
                f"[{min(ends):.5g}, {max(ends):.5g}]"
            )
    return lines

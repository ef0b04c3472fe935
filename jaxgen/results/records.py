"""Finished runs as records, and records grouped into cells.

A record is one training seed: what was asked (``spec``), what came out (``result``, all of it
deterministic), the history of its training, and where and how fast it ran (``provenance``).

``result`` (schema 1)
    ``run``: algorithm, environment, technique, seed, experiment (algorithm_environment_arm) and
    name (experiment-hash). ``quick``. ``status``: "done" or "diverged". ``env_steps``:
    requested, actual. ``evaluation``: levels [levels], episodes, and per mode mean and
    standard_error [levels]; null when diverged. ``references``: floor, floor_standard_error,
    ceiling [levels]. ``scores``: per mode `jaxgen.evaluation.scores.Scores.to_dict`; null when
    diverged. ``training``: scalars by name. ``gas``: per source (train, probe) null or
    `jaxgen.evaluation.agreement.Agreement.to_dict`. ``layout_overlap``: per level, or null.
    ``kinds``: means by kind of episode (easy seen, easy unseen, hard unseen), where there are some.
``history``
    Per iteration: env_steps, reward (NaN where no episode ended), loss, and others such as
    epsilon; per evaluation during training: eval_env_steps, eval_return (greedy, level 0) and
    probe_gram ``[2, K, 2, K]``, see `jaxgen.evaluation.agreement.score_probe`. Where episodes play
    instances with numbers (starpilot), of each in training: episodes_variation,
    episodes_level_seed, episodes_length, episodes_return; of each in the final evaluation:
    episodes_evaluation_level_seed, episodes_evaluation_greedy, episodes_evaluation_sampled.
``provenance``
    ``program``, and ``seconds`` (compile, train, evaluate, probe) of that whole program, of which
    the run was one of ``lanes`` lanes (by default: the runs that share the program and seconds).

A *cell* holds the seeds of one run name. Records of one experiment that differ in anything of
the spec (budget, configuration, evaluation, ...) have different run names and a different
``setting``, and are never pooled.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxgen.study.arms import arm_name, overrides_of, technique_of
from jaxgen.study.cards import ALGORITHM_CARDS, ENVIRONMENT_CARDS
from jaxgen.study.spec import begun_word
from jaxgen.system.errors import BadInput
from jaxgen.system.files import SCHEMA
from jaxgen.techniques import STUDIED, make_technique

Array = NDArray[np.float64]
History = Mapping[str, np.ndarray]

HEADLINE_MODE = "greedy"
"""The mode of evaluation that headline tables and figures show."""
EPISODES = "episodes_"
"""Begins the names of a history's arrays that have a number for each of some episodes."""
_SETTING = ("config", "task_options", "evaluation", "study_seed", "quick")
"""What of a spec arms must share to be comparable."""


class Record(NamedTuple):
    """One training seed as it lies on the disk; see the module for the fields."""

    spec: Mapping[str, Any]
    seed: int
    result: Mapping[str, Any]
    history: History | Callable[[], History]
    """The arrays, or a function that loads them."""
    provenance: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Run name: experiment and content hash."""
        return self.result["run"]["name"]

    @property
    def experiment(self) -> str:
        """``<algorithm>_<environment>_<arm>``."""
        return self.result["run"]["experiment"]

    @property
    def algorithm(self) -> str:
        """Registry name of the algorithm."""
        return self.result["run"]["algorithm"]

    @property
    def environment(self) -> str:
        """Registry name of the environment."""
        return self.result["run"]["environment"]

    @property
    def technique(self) -> str:
        """Registry name of the technique."""
        return self.result["run"]["technique"]

    @property
    def arm(self) -> str:
        """Name of the arm, see `jaxgen.study.arms`; the technique's in rows without it."""
        overrides = self.spec.get("overrides") or {}
        begun = begun_word(self.spec.get("agent"))
        return self.spec.get("arm") or arm_name(self.technique, overrides) + begun

    @property
    def configured(self) -> str:
        """The algorithm with the run's own hyper-parameters, as in ``ppo@hidden=32x32``.

        Arms of one such name differ in the technique alone.
        """
        return self.algorithm + overrides_of(self.arm)

    @property
    def alias_of(self) -> str | None:
        """Run name of which this run is a copy: shown, never counted as evidence."""
        return self.spec.get("alias_of")

    @property
    def base(self) -> str | None:
        """The algorithm behind a preset's name; None in rows that do not say it."""
        return self.spec.get("base")

    @property
    def encoding(self) -> str | None:
        """How the network saw codes of cells, where there were any; None in rows without it."""
        if "config" in self.spec:
            # Codes go one-hot into a network unless its configuration says otherwise.
            config = self.spec["config"] | self.spec.get("overrides", {})
            return config.get("encoding", "one_hot")
        return self.spec.get("encoding")

    @property
    def training_levels(self) -> tuple[float, ...]:
        """The levels trained on, each once; empty for an alias, which is another arm's training.

        Rows of a results.csv do not say them: there they are those of the technique of this name,
        if it is known here.
        """
        levels = self.spec.get("levels") or self.spec.get("technique_values", {}).get("levels")
        if not levels:
            try:
                levels = make_technique(self.technique).levels
            except BadInput:
                levels = ()
        return () if self.alias_of else tuple(sorted(set(levels)))

    @property
    def quick(self) -> bool:
        """A run of ``--quick``: not a result."""
        return bool(self.result["quick"])

    @property
    def diverged(self) -> bool:
        """Training met NaN: the run is counted and shown as failed, and has no scores."""
        return self.result["status"] == "diverged"

    @property
    def setting(self) -> str:
        """A letter and four hexadecimal digits that arms share where they are comparable.

        The letter keeps spreadsheets from taking 0427 or 1e23 for a number.

        A record that was read from a results.csv knows its setting, not what it was made of.
        """
        if "setting" in self.spec:
            return self.spec["setting"]
        shared = {key: self.spec.get(key) for key in _SETTING}
        text = json.dumps(shared, sort_keys=True)
        return "s" + hashlib.sha256(text.encode()).hexdigest()[:4]

    def gas(self, source: str, form: str) -> float | None:
        """Gradient agreement score by ``train`` or ``probe``, None where it was not measured."""
        return ((self.result.get("gas") or {}).get(source) or {}).get(form)

    def load_history(self) -> History:
        """The history's arrays, without the iterations after the run had used its budget.

        A lane that stops early repeats its env_steps until the program ends.
        """
        history = self.history() if callable(self.history) else self.history
        if "env_steps" not in history:
            return dict(history)
        trained = np.diff(np.asarray(history["env_steps"], np.float64), prepend=-1) > 0
        return {
            name: values[trained] if len(values) == len(trained) else values
            for name, values in ((name, np.asarray(x)) for name, x in history.items())
            if not name.startswith(EPISODES)
        }


class Cell(NamedTuple):
    """The seeds of one run name, in order."""

    environment: str
    algorithm: str
    """The name with the overrides, see `Record.configured`."""
    arm: str
    """The technique: what is compared within an algorithm."""
    setting: str
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """Run name: experiment and content hash."""
        return self.records[0].name

    @property
    def digest(self) -> str:
        """The content hash in the run's name."""
        return self.name.rsplit("-", 1)[-1]

    @property
    def alias_of(self) -> str | None:
        """The arm of which this cell is a copy."""
        name = self.records[0].alias_of
        place = f"{self.records[0].algorithm}_{self.environment}_"
        return name and technique_of(name.removeprefix(place).rsplit("-", 1)[0])

    @property
    def quick(self) -> bool:
        """Any record is of a quick run."""
        return any(record.quick for record in self.records)

    @property
    def finished(self) -> tuple[Record, ...]:
        """The records that did not diverge."""
        return tuple(record for record in self.records if not record.diverged)

    @property
    def num_diverged(self) -> int:
        """How many seeds failed."""
        return len(self.records) - len(self.finished)

    def scores(self, name: str, mode: str = HEADLINE_MODE) -> dict[int, float]:
        """Seed -> score, for the seeds where it is not null."""
        values = {r.seed: r.result["scores"][mode][name] for r in self._evaluated(mode)}
        return {seed: value for seed, value in values.items() if value is not None}

    def num_valid(self, mode: str = HEADLINE_MODE) -> int:
        """How many seeds learned."""
        return sum(r.result["scores"][mode]["valid"] for r in self._evaluated(mode))

    def curves(self, mode: str = HEADLINE_MODE) -> Array:
        """J(v), [seeds that finished, levels]."""
        return self._stack([mode_of(r, mode)["mean"] for r in self._evaluated(mode)])

    def normalised_curves(self, mode: str = HEADLINE_MODE) -> Array:
        """s(v), [seeds that finished, levels]."""
        return self._stack([r.result["scores"][mode]["s"] for r in self._evaluated(mode)])

    def _evaluated(self, mode: str) -> list[Record]:
        return [r for r in self.finished if mode in r.result["evaluation"]["modes"]]

    def _stack(self, curves: list[list[float]]) -> Array:
        return np.asarray(curves, np.float64) if curves else np.empty((0, 0))


def alias_records(
    records: Iterable[Record], aliases: Mapping[str, Mapping[str, Any]]
) -> list[Record]:
    """Records of runs that were never trained, as copies of the runs that they stand for.

    Args:
        records: trained runs.
        aliases: run name -> spec, whose ``alias_of`` is the name of a trained run.

    Returns:
        A record for each alias and each seed of its run, in the order of the aliases.
    """
    trained: dict[str, list[Record]] = {}
    for record in records:
        trained.setdefault(record.name, []).append(record)
    return [
        _as_alias(record, name, spec)
        for name, spec in aliases.items()
        for record in trained.get(spec["alias_of"], ())
    ]


def _as_alias(record: Record, name: str, spec: Mapping[str, Any]) -> Record:
    run = {
        **record.result["run"],
        "technique": spec["technique"],
        "experiment": name.rsplit("-", 1)[0],
        "name": name,
    }
    return record._replace(spec=spec, result={**record.result, "run": run})


def mode_of(record: Record, mode: str) -> Mapping[str, list[float]]:
    """Mean and standard error [levels] of a finished record's evaluation."""
    return record.result["evaluation"]["modes"][mode]


def levels_of(records: Iterable[Record]) -> tuple[float, ...]:
    """The levels that were evaluated; empty when every record diverged.

    Raises:
        ValueError: the records were evaluated at different levels.
    """
    levels = {tuple(r.result["evaluation"]["levels"]) for r in records if not r.diverged}
    if len(levels) > 1:
        raise BadInput(
            f"records were evaluated at different levels {sorted(levels)}; analyse them apart"
        )
    return levels.pop() if levels else ()


def modes_of(records: Iterable[Record]) -> list[str]:
    """The modes of evaluation that occur, the headline mode first."""
    modes = {m for r in records if not r.diverged for m in r.result["evaluation"]["modes"]}
    return sorted(modes, key=lambda mode: (mode != HEADLINE_MODE, mode))


def check_records(records: Iterable[Record]) -> list[Record]:
    """The records in their canonical order.

    Raises:
        ValueError: another schema, a run that disagrees with its spec, or a seed twice.
    """
    ordered = sorted(records, key=_sort_key)
    seen: set[tuple[str, int]] = set()
    for record in ordered:
        check_record(record)
        if (record.name, record.seed) in seen:
            raise BadInput(f"{record.name} seed {record.seed} occurs twice; give each run once")
        seen.add((record.name, record.seed))
    return ordered


def group_cells(records: Iterable[Record]) -> list[Cell]:
    """Cells in canonical order, each with its seeds in order; errors as in `check_records`."""
    groups: dict[str, list[Record]] = {}
    for record in check_records(records):
        groups.setdefault(record.name, []).append(record)
    return [
        Cell(first.environment, first.configured, first.technique, first.setting, tuple(group))
        for group in groups.values()
        for first in group[:1]
    ]


def environment_order(name: str) -> tuple[int, str]:
    """Sort key of an environment's name: those that are registered first."""
    return _order(ENVIRONMENT_CARDS, name, name)


def algorithm_order(name: str) -> tuple[int, str]:
    """Sort key of an algorithm's name: dqn, then ``dqn+``, ``dqn-onehot``, ``dqn@gamma=.9``."""
    # A space sorts before all other signs, so that ppo of a folder (ppo:old) leads its presets.
    return _order(ALGORITHM_CARDS, re.split("[-+@:]", name)[0], name.replace(":", " "))


def arm_order(name: str) -> tuple[int, str]:
    """Sort key of an arm's name: techniques of the generalisation study first."""
    return _order(STUDIED, technique_of(name), name)


def _order(known: Iterable[str], key: str, name: str) -> tuple[int, str]:
    names = list(known)
    return names.index(key) if key in names else len(names), name


def _sort_key(record: Record) -> tuple:
    return (
        environment_order(record.environment),
        algorithm_order(record.configured),
        arm_order(record.technique),
        record.name,
        record.seed,
    )


def check_record(record: Record) -> None:
    """Raise BadInput for another schema, or a record that disagrees with its spec."""
    where = f"{record.name} seed {record.seed}"
    if record.result["schema"] != SCHEMA:
        raise BadInput(
            f"{where} has schema {record.result['schema']}; this version reads {SCHEMA}: "
            "use another results folder, or the version that wrote this one"
        )
    for field in ("algorithm", "environment", "technique"):
        if record.spec.get(field) != record.result["run"][field]:
            raise BadInput(
                f"{where}: {field} is {record.spec.get(field)!r} in spec.json but "
                f"{record.result['run'][field]!r} in result.json; delete the run and train it again"
            )
    if record.result["run"]["seed"] != record.seed:
        raise BadInput(
            f"{where}: result.json is of seed {record.result['run']['seed']}; "
            "delete the run and train it again"
        )

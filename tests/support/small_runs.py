"""Studies that train in a second, and what the tests of the matrix need around them.

In one process the compiled programs of a study are kept, so that a test can start, stop and
start again as often as it likes. What starts anew in earnest are the subprocesses.
"""

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envs_jax import make_task
from jaxgen.results.lock import locked
from jaxgen.results.store import Store, open_store
from jaxgen.running import runner
from jaxgen.running.batch import GroupProgram, make_group_program
from jaxgen.running.kinds.matrix import KIND
from jaxgen.running.reporter import History, Lane
from jaxgen.running.session import Options, Session
from jaxgen.running.watching.reporter import Watched
from jaxgen.running.watching.rows import Sink
from jaxgen.study.fork import PAIRED
from jaxgen.study.presets import preset
from jaxgen.study.product import Group, Study, make_study
from jaxgen.study.programs import program_key
from jaxgen.study.spec import Evaluation, RunSpec
from jaxgen.training.fit import needed_devices
from jaxgen.training.memory import Memory
from jaxgen.training.program import stack_lanes

ROOT = Path(__file__).parents[2]
MATRIX = ROOT / "experiments" / "matrix.py"
BUDGETS = {"ppo": 15_360, "dqn": 2_640, "es": 30_000}
"""Env steps: 40 iterations of PPO and DQN, with two to a point of the curve; a few of ES."""
SHORT_ITERATIONS = 4
SHORT: dict[str, Any] = {
    "total_steps": SHORT_ITERATIONS * preset("ppo", "cartpole").steps_per_iteration,
    "evaluation": Evaluation(episodes=10),
}
"""A few iterations of PPO on CartPole, whose programs many files share."""


class Recorder:
    """A `jaxgen.running.reporter.Reporter` that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.env_steps: list[float] = []
        """After each chunk."""
        self.curves: list[tuple[list[Lane], History]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stage(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        self.env_steps.append(env_steps)

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        self.curves.append((lanes, history))

    def noted(self, text: str) -> list[str]:
        """The notes that hold a text."""
        return [note for note in self.notes if text in note]


def small_study(
    algorithm: str = "ppo",
    environment: str = "cartpole",
    techniques: Iterable[str] = ("baseline", "gar"),
    seeds: Iterable[int] = (0, 1),
    **changes: Any,
) -> Study:
    """Real networks and batches, few steps and episodes; changes go to `make_study`."""
    evaluation = Evaluation(episodes=10, curve_episodes=3, probe=True)
    options = {"evaluation": evaluation, "total_steps": BUDGETS.get(algorithm)} | changes
    return make_study([environment], [algorithm], list(techniques), list(seeds), **options)


def with_config(study: Study, technique: str, **changes: Any) -> Study:
    """Change the configuration of one arm."""

    def changed(spec: RunSpec) -> RunSpec:
        if spec.technique != technique:
            return spec
        return dataclasses.replace(spec, shared=dataclasses.replace(spec.shared, **changes))

    return _each_spec(study, changed)


def with_task_options(study: Study, **changes: Any) -> Study:
    """Change options of the environment."""
    return _each_spec(
        study, lambda spec: dataclasses.replace(spec, task_options=spec.task_options | changes)
    )


def _each_spec(study: Study, change: Callable[[RunSpec], RunSpec]) -> Study:
    groups = [
        dataclasses.replace(group, specs=tuple(change(spec) for spec in group.specs))
        for group in study.groups
    ]
    return Study(tuple(groups))


_programs: dict[Any, GroupProgram] = {}


def _kept_program(session: Session, group: Group) -> GroupProgram:
    spec, options = group.specs[0], session.options
    apart = ("technique", "technique_values", "config", "overrides")
    content = {name: value for name, value in spec.to_dict().items() if name not in apart}
    # Lanes of forks have a leaf more.
    uneven = bool(spec.snapshots) and not spec.config.counts_alike
    content |= {"snapshots": uneven, "start": spec.start is not None}
    if spec.start is not None and spec.start.replay in PAIRED:
        content["start"] = spec.start.share, spec.start.replay
    program = program_key(spec.config, spec.technique_values)
    num_devices = len(needed_devices(len(group.lanes), options.num_devices))
    key = repr((content, program, num_devices, options.chunks_per_point))
    if key not in _programs:
        _programs[key] = make_group_program(session, group)
    return _programs[key]


def memory_of(study: Study) -> Memory:
    """What the lanes of a study of one group take."""
    session = Session(Store(Path("unused")), make_task, Options(), Recorder(), KIND, {})
    spec = study.groups[0].specs[0]
    example = stack_lanes([(spec.config, spec.technique_values)], [0])
    return _kept_program(session, study.groups[0]).program.capacity.memory(example)


def run(study: Study, root: Path, sinks: Sequence[Sink] = (), **options: Any) -> Recorder:
    """Run a study into a folder as the command line does, but in this process, without plots, and
    with no checkpoint but the last of a batch."""
    recorder = Recorder()
    store = open_store(root)
    lanes = [lane for group in study.groups for lane in group.lanes]
    plan = [(spec.name, seed) for spec, seed in lanes]
    with kept_programs(), locked(store):
        settings = dataclasses.replace(Options(checkpoint_seconds=1e9), **options)
        with Watched(recorder, sinks, store, lanes) as reporter:
            runner.run_study(study, store, make_task, reporter, KIND, settings)
        assert KIND.derive is not None
        KIND.derive(store, plan, False)
    return recorder


@contextmanager
def kept_programs() -> Iterator[None]:
    """What runs inside finds the programs that were compiled before, and leaves its own."""
    originals = runner.make_group_program, runner.release
    runner.make_group_program, runner.release = _kept_program, lambda: None
    try:
        yield
    finally:
        runner.make_group_program, runner.release = originals


def files_of(root: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative name."""
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*")) if file.is_file()
    }


def results_of(root: Path) -> dict[str, bytes]:
    """What must be the same however a study was run."""
    names = ("result.json", "history.npz", "spec.json")
    return {name: data for name, data in files_of(root / "runs").items() if name.endswith(names)}


def assert_same_results(root: Path, expected: Path) -> None:
    """Compare all runs of two folders byte for byte."""
    ours, theirs = results_of(root), results_of(expected)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def identities(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every result: the same only if it was not written again."""
    return {
        file.relative_to(root).as_posix(): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in sorted(root.glob("runs/*/*/*")) if not file.name.startswith(".")
    }


def digest(root: Path) -> str:
    """A hash of all names and contents below a folder, but for the process id in the lock."""
    content = {k: v for k, v in files_of(root).items() if k != ".lock"}
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()


def start_matrix(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, from another folder than the repository."""
    return subprocess.Popen(
        [sys.executable, str(MATRIX), *arguments],
        cwd="/", env=os.environ | variables, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def run_matrix(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    with start_matrix(*arguments, **variables) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def refused(
    main: Callable[[list[str]], int], name: str, words: list[str], capsys: Any, message: str
) -> None:
    """Assert that a command line ends with 2 and one line that begins with its name."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{name}: ")
    assert err.count("\n") == 1
    assert message in err

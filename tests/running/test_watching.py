"""TensorBoard and W&B hold what the history files hold, each value once, and stop no training."""

import importlib
import itertools
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from jaxgen.results.store import Store, open_store
from jaxgen.running.session import Interrupted
from jaxgen.running.watching.reporter import Watched
from jaxgen.running.watching.rows import MAX_ROWS, START, Cursor, Row, Run, final_scores, new_rows
from jaxgen.running.watching.sinks import make_sinks
from jaxgen.running.watching.tensorboard import TensorBoard
from jaxgen.running.watching.wandb import WandB
from jaxgen.study.product import Study
from jaxgen.study.spec import Evaluation
from small_runs import (
    ROOT,
    SHORT,
    SHORT_ITERATIONS,
    Recorder,
    assert_same_results,
    run,
    small_study,
)

Events = dict[str, list[tuple[int, float]]]
"""(env steps, value) of each event, by tag."""

STUDY = small_study(**SHORT)


# Reading back


def events_of(folder: Path) -> Events:
    """Every event below a folder, in the order of files and events; checksums are checked."""
    found: Events = {}
    for file in sorted(folder.glob("*.tfevents.*")):
        versions = 0
        for event in events_in(file):
            versions += event.file_version == "brain.Event:2"
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
        assert versions == 1
    return found


def events_in(file: Path) -> list[Any]:
    messages: Any = importlib.import_module("tensorboardX.proto.event_pb2")
    data, events = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        content = data[12 : 12 + length]
        assert data[8:12] == masked_checksum(data[:8])
        assert data[12 + length : 16 + length] == masked_checksum(content)
        events.append(messages.Event.FromString(content))
        data = data[16 + length :]
    return events


def masked_checksum(data: bytes) -> bytes:
    """Of a TFRecord: CRC-32C (the polynomial below, reflected), rotated by 15 bits and shifted."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def expected_events(store: Store, name: str, seed: int) -> Events:
    """What the history file of a run with fewer than MAX_ROWS iterations holds."""
    history, found = store.read_history(name, seed), {}
    for metric, values in history.items():
        if metric.startswith(("eval_", "probe_")) or metric == "env_steps":
            continue
        pairs = zip(history["env_steps"].tolist(), values.tolist(), strict=True)
        finite = [(step, value) for step, value in pairs if np.isfinite(value)]
        if finite:
            found[f"train/{metric}"] = finite
    points = zip(history["eval_env_steps"].tolist(), history["eval_return"].tolist(), strict=True)
    found["eval/return"] = list(points)
    return found


def split_final(events: Events) -> tuple[Events, Events]:
    """Events of the training, and the final scores."""
    final = {tag: values for tag, values in events.items() if tag.startswith("final/")}
    return {tag: values for tag, values in events.items() if tag not in final}, final


def runs_of(study: Study) -> list[Run]:
    return [Run(spec.name, seed) for group in study.groups for spec, seed in group.lanes]


def board_folder(root: Path, watched: Run) -> Path:
    return root / "tensorboard" / watched.name / f"seed_{watched.seed:04d}"


def assert_whole(root: Path, study: Study) -> None:
    """The event files hold each value of the history files once, and the scores."""
    store = open_store(root)
    for watched in runs_of(study):
        training, final = split_final(events_of(board_folder(root, watched)))
        assert training == expected_events(store, *watched)
        scores = final_scores(store.read_result(*watched))
        assert final == {
            tag: [(scores.env_steps, np.float32(value))] for tag, value in scores.values.items()
        }


# TensorBoard


@pytest.mark.parametrize("algorithm", ["ppo", pytest.param("es", marks=pytest.mark.slow)])
def test_event_files_hold_what_the_history_files_hold(tmp_path, algorithm):
    arms = ("baseline", "gar") if algorithm == "ppo" else ("baseline", "dr")
    probed = SHORT | {"evaluation": Evaluation(episodes=10, probe=True)}
    options: dict[str, Any] = probed if algorithm == "ppo" else {}
    study = small_study(algorithm, techniques=arms, **options)
    recorder = run(study, tmp_path, make_sinks(tmp_path, tensorboard=True))
    assert_whole(tmp_path, study)
    tags = events_of(board_folder(tmp_path, runs_of(study)[-1]))
    assert {"train/reward", "train/loss", "eval/return", "final/greedy/A_ood"} <= tags.keys()
    assert not any("probe_gram" in tag for tag in tags)
    if algorithm == "es":
        # Otherwise nothing is known of lanes that rest.
        assert any((history["active"] == 0).any() for _, history in recorder.curves)


def test_watching_changes_no_bit_and_the_other_reporter_is_told_all(tmp_path):
    # Whoever trains first compiles, and says so.
    run(STUDY, tmp_path / "compiled")
    watched = run(STUDY, tmp_path / "watched", make_sinks(tmp_path, tensorboard=True))
    plain = run(STUDY, tmp_path / "plain")
    assert_same_results(tmp_path / "watched", tmp_path / "plain")
    assert watched.env_steps == plain.env_steps
    assert len(watched.curves) == len(plain.curves)
    assert len(watched.notes) == len(plain.notes)


def stop_after(chunks: int, root: Path, **options: Any) -> None:
    asked = itertools.count()
    with pytest.raises(Interrupted):
        run(STUDY, root, should_stop=lambda: next(asked) > chunks, **options)


def test_after_an_interrupt_nothing_is_doubled_or_missing(tmp_path):
    stop_after(2, tmp_path, sinks=make_sinks(tmp_path, tensorboard=True))
    left = events_of(board_folder(tmp_path, runs_of(STUDY)[0]))
    assert 0 < len(left["train/loss"]) < SHORT_ITERATIONS
    assert split_final(left)[1] == {}
    run(STUDY, tmp_path, make_sinks(tmp_path, tensorboard=True))
    assert_whole(tmp_path, STUDY)


def test_a_torn_file_of_a_killed_process_is_replaced(tmp_path):
    stop_after(2, tmp_path, sinks=make_sinks(tmp_path, tensorboard=True))
    folder = board_folder(tmp_path, runs_of(STUDY)[0])
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    file.rename(folder / "events.out.tfevents.1.jaxgen")
    (folder / "notes.txt").write_text("not ours")
    run(STUDY, tmp_path, make_sinks(tmp_path, tensorboard=True))
    assert_whole(tmp_path, STUDY)
    assert (folder / "notes.txt").exists()


def test_what_was_done_before_is_written_once(tmp_path):
    """By a process that did not watch, or that was killed before it wrote the scores."""
    run(STUDY, tmp_path)
    recorder = run(STUDY, tmp_path, make_sinks(tmp_path, tensorboard=True))
    assert recorder.env_steps == []
    assert recorder.notes == ["TensorBoard: 4 runs that were done before are written"]
    assert_whole(tmp_path, STUDY)

    folder = board_folder(tmp_path, runs_of(STUDY)[0])
    (scores,) = folder.glob("*.scores")
    scores.unlink()
    recorder = run(STUDY, tmp_path, make_sinks(tmp_path, tensorboard=True))
    assert recorder.notes == ["TensorBoard: 1 runs that were done before are written"]
    assert_whole(tmp_path, STUDY)
    assert run(STUDY, tmp_path, make_sinks(tmp_path, tensorboard=True)).notes == []

    store, recorder = open_store(tmp_path), Recorder()
    for watched in runs_of(STUDY)[:2]:
        next(board_folder(tmp_path, watched).glob("*.scores")).unlink()
    # One that is lacking is not done.
    store.discard(*runs_of(STUDY)[0])
    with Watched(recorder, make_sinks(tmp_path, tensorboard=True), store, STUDY.groups[0].lanes):
        pass
    assert recorder.notes == ["TensorBoard: 1 runs that were done before are written"]


# Rows


def synthetic(num_iterations: int, steps: int = 10) -> dict[str, np.ndarray]:
    """A lane's metrics, with a point of the learning curve at every tenth iteration."""
    iterations = np.arange(num_iterations)
    env_steps = (steps * (iterations + 1)).astype(np.int32)
    return {
        "env_steps": env_steps,
        "loss": iterations.astype(np.float32),
        "reward": np.where(iterations % 3 == 0, iterations, np.nan).astype(np.float32),
        "eval_env_steps": env_steps[9::10],
        "eval_return": iterations[9::10].astype(np.float32),
        "probe_gram": np.ones((num_iterations // 10, 2, 3, 2, 3), np.float32),
        "episodes_seed": np.arange(5),
    }


def test_few_iterations_are_rows_as_they_are():
    rows, given = new_rows(synthetic(20), total_steps=200)
    assert given == Cursor(20, 2)
    assert [row.env_steps for row in rows] == list(range(10, 201, 10))
    assert rows[0].values == {"train/loss": 0.0, "train/reward": 0.0}
    assert rows[1].values == {"train/loss": 1.0}
    assert rows[9].values == {"train/loss": 9.0, "train/reward": 9.0, "eval/return": 9.0}


def test_many_iterations_become_means_over_equal_parts_of_the_budget():
    """Of 1000 iterations of 10 steps, counted from 0, 2k - 1 and 2k end in part k of 500."""
    rows, _ = new_rows(synthetic(1000), total_steps=10_000)
    losses = [(at, values["train/loss"]) for at, values in rows if "train/loss" in values]
    # The first is alone in part 0, the last one alone ends at the budget.
    assert losses[:3] == [(10, 0.0), (30, 1.5), (50, 3.5)]
    assert losses[-1] == (10_000, 999.0)
    assert len(losses) == MAX_ROWS + 1
    # What is not finite has no share in a mean: reward is there at iterations 0, 3, 6.
    by_step = dict(rows)
    assert by_step[50]["train/reward"] == 3.0
    assert by_step[70]["train/reward"] == 6.0
    assert "train/reward" not in by_step[30]
    assert sum("eval/return" in row.values for row in rows) == 100


@pytest.mark.parametrize("num_iterations", [7, 500, 1003, 5000])
def test_rows_do_not_depend_on_when_they_are_asked_for(num_iterations):
    history, total_steps = synthetic(num_iterations), 10 * num_iterations
    whole, _ = new_rows(history, total_steps)
    parts, given = [], START
    for stop in [*range(1, num_iterations, 37), num_iterations]:
        seen = {
            name: values[: stop // 10] if name.startswith(("eval_", "probe_")) else values[:stop]
            for name, values in history.items()
        }
        rows, given = new_rows(seen, total_steps, given, ended=stop == num_iterations)
        parts += rows
    assert merged(parts) == merged(whole)


def merged(rows: list[Row]) -> dict[int, dict[str, float]]:
    """Values by env steps; no value may come twice."""
    found: dict[int, dict[str, float]] = {}
    for env_steps, values in rows:
        assert not found.setdefault(env_steps, {}).keys() & values.keys()
        found[env_steps] |= values
    return found


def test_iterations_and_points_of_a_resting_lane_are_no_rows():
    history = synthetic(30)
    rested = 12
    history["active"] = (np.arange(30) < rested).astype(np.float32)
    history["env_steps"] = np.minimum(history["env_steps"], 10 * rested)
    history["eval_env_steps"] = np.minimum(history["eval_env_steps"], 10 * rested)
    rows, _ = new_rows(history, total_steps=300)
    assert [row.env_steps for row in rows] == list(range(10, 121, 10))
    assert [row.env_steps for row in rows if "eval/return" in row.values] == [100, 120]


def test_a_diverged_run_has_no_other_score():
    result = {
        "status": "diverged", "env_steps": {"actual": 70}, "scores": None, "evaluation": None,
        "gas": {"train": None, "probe": None},
    }  # fmt: skip
    assert final_scores(result) == Row(70, {"final/diverged": 1.0})


# Sinks that fail


class Failing:
    """A sink that fails at one of its verbs, and keeps what it was told."""

    name = "Failing"

    def __init__(self, verb: str):
        self.verb = verb
        self.told: list[str] = []

    def _tell(self, verb: str) -> None:
        self.told.append(verb)
        if verb == self.verb:
            raise OSError("no space left")

    def has(self, run: Run) -> bool:
        self._tell("has")
        return False

    def start(self, run: Run, spec: Any) -> None:
        self._tell("start")

    def write(self, run: Run, rows: Any) -> None:
        self._tell("write")

    def finish(self, run: Run, scores: Row) -> None:
        self._tell("finish")

    def close(self) -> None:
        self._tell("close")


@pytest.mark.parametrize("verb", ["has", "start", "write", "finish", "close"])
def test_a_sink_that_fails_is_noted_once_and_left_out(tmp_path, verb):
    if verb == "has":
        # It is asked about runs that were done before.
        run(STUDY, tmp_path)
    failing = Failing(verb)
    recorder = run(STUDY, tmp_path, [failing, *make_sinks(tmp_path, tensorboard=True)])
    (note,) = recorder.noted("Failing failed")
    assert note == "Failing failed and is left out from here on (OSError: no space left)"
    assert failing.told[-1] == verb
    assert failing.told.count(verb) == 1
    assert_whole(tmp_path, STUDY)


def test_a_folder_that_cannot_be_written_stops_no_training(tmp_path):
    open_store(tmp_path)
    (tmp_path / "tensorboard").write_text("in the way")
    recorder = run(STUDY, tmp_path, make_sinks(tmp_path, tensorboard=True))
    (note,) = recorder.noted("TensorBoard failed and is left out from here on (")
    assert "tensorboard" in note
    assert all(open_store(tmp_path).is_done(*watched) for watched in runs_of(STUDY))


class OnFullDisk(TensorBoard):
    """Begins files, of which each is then the device that is always full."""

    def start(self, run: Run, spec: Any) -> None:
        super().start(run, spec)
        (file,) = (self._folder / run.name / f"seed_{run.seed:04d}").iterdir()
        file.unlink()
        file.symlink_to("/dev/full")


def test_a_full_disk_stops_no_training(tmp_path):
    recorder = run(STUDY, tmp_path, [OnFullDisk(tmp_path / "tensorboard")])
    (note,) = recorder.noted("TensorBoard failed and is left out from here on (")
    assert "No space left on device" in note
    assert all(open_store(tmp_path).is_done(*watched) for watched in runs_of(STUDY))


# What is asked for


@pytest.mark.parametrize(
    ("package", "asked"), [("tensorboardX", {"tensorboard": True}), ("wandb", {"wandb": "offline"})]
)
def test_a_missing_package_is_an_error_at_once_with_its_remedy(
    tmp_path, monkeypatch, package, asked
):
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"is missing: .*; pip install tensorboardX 'wandb"):
        make_sinks(tmp_path, **asked)


def test_an_unknown_mode_is_refused_before_anything_is_imported(tmp_path):
    with pytest.raises(ValueError, match="'offlin' is unknown; use one of offline, online"):
        make_sinks(tmp_path, wandb="offlin")  # pyright: ignore[reportArgumentType]


def test_nothing_is_imported_that_was_not_asked_for(tmp_path):
    program = """
import sys
from pathlib import Path
import jaxgen.running.watching.console, jaxgen.running.runner
from jaxgen.running.watching.reporter import Watched
from jaxgen.running.watching.sinks import make_sinks
from jaxgen.results.store import Store
root = Path(sys.argv[1])
with Watched(jaxgen.running.watching.console.Console(), make_sinks(root), Store(root)):
    pass
print([name for name in sys.modules if name.split(".")[0] in ("tensorboardX", "wandb")])
make_sinks(Path(sys.argv[1]), tensorboard=True)
print("tensorboardX" in sys.modules, "wandb" in sys.modules)
"""
    words = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True False"]


# W&B, by a module that has the signatures of wandb 0.31 and keeps what it is told


class FakeRun:
    def __init__(self, given: dict[str, Any]):
        self.given = given
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.folder = Path(given["dir"], "wandb", f"offline-run-20260101_000000-{given['id']}")
        # As W&B does.
        self.folder.mkdir(parents=True)

    def log(
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        assert self.exit_code is None
        assert not self.rows or step is None or step >= (self.rows[-1][0] or 0)
        self.rows.append((step, data))

    def finish(self, exit_code: int | None = None) -> None:
        assert self.exit_code is None
        self.exit_code = exit_code


class FakeSettings:
    def __init__(
        self, *, mode: str = "online", silent: bool = False, console: str = "auto",
        save_code: bool | None = None, disable_git: bool = False, x_disable_meta: bool = False,
        x_disable_stats: bool = False, x_save_requirements: bool = True,
    ):  # fmt: skip
        self.mode = mode
        # No threads that listen to the process or measure the machine, of which there would be
        # as many as runs.
        self.light = silent and console == "off" and x_disable_meta and x_disable_stats


class FakeWandb(ModuleType):
    Settings = FakeSettings

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[FakeRun] = []
        self.mode = "online"
        self.account: bool | Exception = True

    def setup(self, settings: FakeSettings | None = None) -> None:
        assert settings is not None
        self.mode = settings.mode

    def login(
        self, key=None, relogin=None, host=None, force=None, timeout=None, verify=True,
        referrer=None, prompt=True,
    ) -> bool:  # fmt: skip
        if isinstance(self.account, Exception):
            raise self.account
        return self.account

    def init(
        self, entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None,
        config=None, config_exclude_keys=None, config_include_keys=None, allow_val_change=None,
        group=None, job_type=None, mode=None, force=None, reinit=None, resume=None,
        resume_from=None, fork_from=None, save_code=None, tensorboard=None,
        sync_tensorboard=None, monitor_gym=None, settings=None,
    ) -> FakeRun:  # fmt: skip
        assert reinit == "create_new"
        assert settings is not None and settings.light
        # Or telemetry would reach for the network.
        assert mode == self.mode
        given = {"project": project, "dir": dir, "id": id, "name": name, "group": group}
        self.runs.append(FakeRun(given | {"config": config, "mode": mode}))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_wandb_gets_a_run_per_seed_and_a_group_per_cell(tmp_path, wandb):
    run(STUDY, tmp_path, make_sinks(tmp_path, wandb="offline"))
    lanes = STUDY.groups[0].lanes
    assert [fake.given["name"] for fake in wandb.runs] == [
        "ppo_cartpole_baseline_seed_0", "ppo_cartpole_baseline_seed_1",
        "ppo_cartpole_gar_seed_0", "ppo_cartpole_gar_seed_1",
    ]  # fmt: skip
    store = open_store(tmp_path)
    for fake, (spec, seed) in zip(wandb.runs, lanes, strict=True):
        given = fake.given
        assert (given["group"], given["project"]) == (spec.experiment, "jaxgen")
        assert (given["mode"], given["dir"]) == ("offline", str(tmp_path))
        assert given["config"] == spec.to_dict() | {"run": spec.name, "seed": seed}
        json.dumps(given["config"])
        events: Events = {}
        for step, values in fake.rows:
            assert isinstance(step, int)
            for tag, value in values.items():
                assert type(value) is float
                events.setdefault(tag, []).append((step, value))
        assert events == expected_events(store, spec.name, seed)
        scores = final_scores(store.read_result(spec.name, seed))
        assert fake.summary == scores.values
        assert fake.exit_code == 0
    assert len({fake.given["id"] for fake in wandb.runs}) == 4
    # Ids are those of any other process.
    assert wandb.runs[0].given["id"] == WandB.run_id(Run(lanes[0][0].name, 0))
    assert all(len(fake.given["id"]) == 16 for fake in wandb.runs)


def values_of(fake: FakeRun) -> set[tuple[int | None, str, float]]:
    return {(step, tag, value) for step, values in fake.rows for tag, value in values.items()}


def test_an_interrupted_wandb_run_is_replaced_by_a_whole_one(tmp_path, wandb):
    stop_after(2, tmp_path, sinks=make_sinks(tmp_path, wandb="offline"))
    left = wandb.runs[:]
    assert [fake.exit_code for fake in left] == [1] * 4
    (left[0].folder / "part").write_text("of it")
    run(STUDY, tmp_path, make_sinks(tmp_path, wandb="offline"))
    again = wandb.runs[4:]
    assert [fake.given["id"] for fake in again] == [fake.given["id"] for fake in left]
    assert [fake.exit_code for fake in again] == [0] * 4
    # Made anew, without what was left.
    assert list(left[0].folder.iterdir()) == []
    assert values_of(left[0]) < values_of(again[0])
    assert again[0].rows[-1][0] == SHORT["total_steps"]
    # All is there: a third start begins nothing.
    run(STUDY, tmp_path, make_sinks(tmp_path, wandb="offline"))
    assert len(wandb.runs) == 8


@pytest.mark.parametrize(("mode", "most"), [("offline", 2), ("online", 0)])
def test_runs_end_when_the_next_batch_trains_unless_that_waits_for_the_network(
    tmp_path, wandb, mode, most
):
    ended_while_training: list[int] = []

    def should_stop() -> bool:
        ended_while_training.append(sum(fake.exit_code is not None for fake in wandb.runs))
        return False

    run(STUDY, tmp_path, make_sinks(tmp_path, wandb=mode), max_lanes=2, should_stop=should_stop)
    assert max(ended_while_training) == most
    assert [fake.exit_code for fake in wandb.runs] == [0] * 4
    assert {fake.given["mode"] for fake in wandb.runs} == {mode}
    # What is there in one mode is not there in the other.
    other = "online" if mode == "offline" else "offline"
    run(STUDY, tmp_path, make_sinks(tmp_path, wandb=other))
    assert [fake.given["mode"] for fake in wandb.runs[4:]] == [other] * 4


@pytest.mark.parametrize("account", [False, FakeWandb.Error("api_key not configured")])
def test_online_without_an_account_is_an_error_at_once(tmp_path, wandb, account):
    wandb.account = account
    with pytest.raises(ValueError, match="knows no account to upload to.*; run `wandb login`"):
        make_sinks(tmp_path, wandb="online")
    # Offline needs none.
    make_sinks(tmp_path, wandb="offline")


def test_wandb_itself_writes_offline_runs(tmp_path):
    """Where it is installed: the fake has its signatures, and runs appear on the disk."""
    pytest.importorskip("wandb", reason="wandb is installed by the extra 'watch' only")
    program = """
from jaxgen.system import platform
platform.configure("cpu", num_devices=2)
import inspect, sys
from pathlib import Path
import wandb
from small_runs import small_study, run
from test_watching import FakeRun, FakeSettings, FakeWandb
from jaxgen.running.watching.sinks import make_sinks

def names(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]

for fake, real in ((FakeWandb.init, wandb.init), (FakeWandb.login, wandb.login),
                   (FakeWandb.setup, wandb.setup), (FakeRun.log, wandb.Run.log),
                   (FakeRun.finish, wandb.Run.finish)):
    assert set(names(fake)) <= set(names(real)), (names(fake), names(real))
assert set(names(FakeSettings)) <= set(wandb.Settings.model_fields)
root = Path(sys.argv[1])
recorder = run(small_study(), root, make_sinks(root, wandb="offline"))
assert not recorder.noted("failed"), recorder.notes
"""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    variables = os.environ | {"HOME": str(tmp_path / "home"), "PYTHONPATH": paths}
    words = [sys.executable, "-c", program, str(tmp_path / "results")]
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for watched in runs_of(small_study()):
        (folder,) = (tmp_path / "results/wandb").glob(f"offline-run-*-{WandB.run_id(watched)}")
        assert (folder / f"run-{WandB.run_id(watched)}.wandb").stat().st_size > 10_000
    assert len(list((tmp_path / "results/wandb/complete").iterdir())) == 4


# The reporter by itself


def test_without_sinks_everything_is_passed_on(tmp_path):
    recorder = Recorder()
    with Watched(recorder, [], Store(tmp_path)) as reporter:
        reporter.note("a note")
        reporter.progress("ppo", 1.0, 2.0, 3.0)
        reporter.curve("ppo", STUDY.groups[0].lanes, {"loss": np.zeros((4, 1))})
    assert recorder.notes == ["a note"]
    assert recorder.env_steps == [1.0]
    assert len(recorder.curves) == 1

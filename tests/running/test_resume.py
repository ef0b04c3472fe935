"""Whatever stops a study, the same start again ends with the same bytes, and does nothing twice.

A process that is killed leaves the files that it had written. So that every moment can be tried
in seconds, a study runs once while the folder is copied at each passage of a write point; from
each copy a study must go on as from a kill there. The kills in earnest confirm it.
"""

import json
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxgen import load_agent
from jaxgen.results.best import copy_best, lost_best
from jaxgen.results.lock import locked
from jaxgen.results.read import read_records
from jaxgen.results.store import AGENT, Store, open_store
from jaxgen.running import progress
from jaxgen.running.kinds.matrix import KIND
from jaxgen.running.progress import Progress
from jaxgen.running.session import Batch, Interrupted
from jaxgen.running.workers.cut import make_units, remove_useless
from jaxgen.study.product import Study
from jaxgen.system import archives, checkpoint, faults, files
from jaxgen.system.files import TEMP_PREFIX, DamagedFile
from jaxgen.training.program import Carry
from small_runs import (
    SHORT,
    SHORT_ITERATIONS,
    assert_same_results,
    digest,
    files_of,
    identities,
    run,
    run_matrix,
    small_study,
    start_matrix,
)

NUM_ITERATIONS = SHORT_ITERATIONS
STEPS = SHORT["total_steps"]
STUDY = small_study(**SHORT)
"""What COMMAND asks for."""
LANES = STUDY.num_trained
BEST = "best_models/ppo_cartpole_best"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a study that nothing stopped."""
    root = tmp_path_factory.mktemp("whole")
    run(STUDY, root)
    return root


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "copied")


def assert_whole(root: Path, whole: Path) -> None:
    """Results, tables and agents are those of the study that nothing stopped."""
    assert_same_results(root, whole)
    names = [name for name in files_of(whole) if name.endswith(".npz") or "best_models" in name]
    assert len(names) > 2 * LANES
    for name in ("results.csv", *names):
        assert (root / name).read_bytes() == (whole / name).read_bytes(), name
    assert list((root / "checkpoints").iterdir()) == []
    assert [name for name in files_of(root) if TEMP_PREFIX in name] == []


def checkpoints_of(root: Path) -> list[Path]:
    return checkpoint.saved_in(root / "checkpoints")


# At every write point


class Moment(NamedTuple):
    """The folder as a kill would leave it."""

    point: str
    passage: int
    root: Path


def moments_of(root: Path, folder: Path) -> list[Moment]:
    """Run the study into ``root``; every state between two writes, the first of equal ones."""
    found: list[Moment] = []
    passages: Counter[str] = Counter()
    seen = set()

    def keep(point: str) -> None:
        passages[point] += 1
        if digest(root) not in seen:
            seen.add(digest(root))
            moment = Moment(point, passages[point], folder / f"{len(found):03d}")
            found.append(moment)
            shutil.copytree(root, moment.root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_point", keep)
        patch.setattr(checkpoint, "write_point", keep)
        run(STUDY, root, checkpoint_seconds=0.0)
    # Logs are of searches.
    assert set(passages) == {p for p in faults.WRITE_POINTS if not p.startswith("log.")}
    return found


def trained_before(root: Path) -> float:
    """Env steps of all lanes in a killed study's checkpoint."""
    saved = checkpoints_of(root)
    if not saved:
        return 0.0
    steps_per_iteration = STEPS / NUM_ITERATIONS
    return LANES * steps_per_iteration * checkpoint.read_meta(saved[0])["iteration"]


@pytest.mark.slow
def test_from_every_write_point_a_study_goes_on(tmp_path, whole):
    moments = moments_of(tmp_path / "watched", tmp_path)
    assert len(moments) > 50
    for moment in moments:
        root = moment.root
        before, done = trained_before(root), identities(root)
        results = [name for name in done if name.endswith("result.json")]
        finished = {Path(name).parent for name in results}
        recorder = run(STUDY, root)
        assert_whole(root, whole)
        # Nothing before the checkpoint is trained again, nothing finished is written again.
        assert all(steps > before for steps in recorder.env_steps), moment
        if before == LANES * STEPS or len(finished) == LANES:
            assert recorder.env_steps == [], moment
        after = identities(root)
        kept = [name for name in done if Path(name).parent in finished]
        assert [name for name in kept if done[name] != after[name]] == [], moment


def test_a_whole_study_is_left_alone(copied, whole):
    before = identities(copied)
    recorder = run(STUDY, copied)
    assert (recorder.notes, recorder.env_steps) == ([], [])
    assert identities(copied) == before
    assert files_of(copied) == files_of(whole)


def test_a_checkpoint_gives_back_all_that_it_was_given(tmp_path):
    """Of the real lanes; the padded ones become copies of the last."""
    numbers = np.random.default_rng(0)
    batch = Batch(STUDY.groups[0].lanes)
    carry = Carry({"params": numbers.normal(size=(6, 3))}, (), np.arange(6))  # pyright: ignore
    state = Progress(
        carry, 7, {"loss": numbers.normal(size=(4, 7))}, {"point": numbers.normal(size=(4, 2))},
        numbers.random((4, 5, 10)) < 0.5, {"games": numbers.normal(size=9)},
        [{"level_seed": np.arange(lane)} for lane in range(4)],
        {"compile": 1.5, "train": 2.5, "evaluate": 3.5},
    )  # fmt: skip
    path = batch.checkpoint_path(Store(tmp_path))
    progress.save(path, batch, state)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), carry)
    loaded = progress.load(path, batch, shapes)
    padded = jax.tree.map(lambda leaf: leaf[[0, 1, 2, 3, 3, 3]], carry)
    expected = state._replace(carry=padded)
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


# Kills in earnest

COMMAND = (
    "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "gar", "--seeds", "0", "1",
    "--total-steps", str(STEPS), "--eval-episodes", "10", "--checkpoint-seconds", "0",
    "--no-plots", "--quiet",
)  # fmt: skip


def assert_goes_on(root: Path, expected: Path, **variables: str) -> str:
    """Start the command again and compare; returns what it printed."""
    done = {k: v for k, v in identities(root).items() if k.endswith("result.json")}
    process = run_matrix(*COMMAND, "--out", str(root), **variables)
    assert process.returncode == 0, process.stderr
    assert_whole(root, expected)
    after = identities(root)
    assert [name for name in done if done[name] != after[name]] == []
    return process.stdout


def kill_at_point(point: str, root: Path, expected: Path) -> str:
    process = run_matrix(*COMMAND, "--out", str(root), **{faults.VARIABLE: point})
    assert process.returncode == -signal.SIGKILL, (point, process.returncode, process.stderr)
    return assert_goes_on(root, expected)


@pytest.mark.slow
def test_killed_between_two_checkpoints(tmp_path, whole):
    out = kill_at_point("checkpoint.moved:3", tmp_path, whole)
    assert f"ppo cartpole: going on from iteration 2 of {NUM_ITERATIONS}" in out


@pytest.mark.slow
def test_killed_at_a_write_point_of_every_file(tmp_path, whole):
    """A real kill leaves what `moments_of` copies; every state of those goes on above."""
    points = [
        *(f"{kind}.written" for kind in faults.STORE_FILES),
        *(point for point in faults.WRITE_POINTS if point.startswith("checkpoint")),
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda p: kill_at_point(p, tmp_path / p, whole), points))


@pytest.mark.slow
def test_killed_at_five_random_moments(tmp_path, whole):
    generator = random.Random(0)
    # A compilation cache of its own: a kill may tear what is being written there.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    run_matrix(*COMMAND, "--out", str(tmp_path / "first"), **cache)
    began = time.monotonic()
    run_matrix(*COMMAND, "--out", str(tmp_path / "second"), **cache)
    seconds = time.monotonic() - began
    for number in range(5):
        root = tmp_path / str(number)
        with start_matrix(*COMMAND, "--out", str(root), **cache) as process:
            # Hardly any of them during the imports, when nothing is written.
            time.sleep(generator.uniform(0.2 if number else 0.0, 1.0) * seconds)
            process.kill()
            process.communicate(timeout=60)
        assert_goes_on(root, whole, **cache)


# Stops that were asked for


class StopAfter:
    """A `should_stop` that says so when it is asked for the count-th time, once."""

    def __init__(self, count: int):
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def stop_after(count: int, study: Study, root: Path) -> None:
    with pytest.raises(Interrupted, match="stopped (at iteration|before)"):
        run(study, root, should_stop=StopAfter(count))


def test_a_stop_between_any_two_chunks_loses_nothing(tmp_path, whole):
    # Asked once before the batch, and then after each chunk; the last chunk finishes anyway.
    for count in range(1, NUM_ITERATIONS + 1):
        root = tmp_path / str(count)
        stop_after(count, STUDY, root)
        recorder = run(STUDY, root)
        assert len(recorder.env_steps) == NUM_ITERATIONS - (count - 1)
        going_on = f"going on from iteration {count - 1} of {NUM_ITERATIONS}"
        assert len(recorder.noted(going_on)) == (count > 1)
        assert_whole(root, whole)


def test_every_stop_goes_on_from_the_last(tmp_path, whole):
    for iteration in range(1, NUM_ITERATIONS):
        stop_after(2, STUDY, tmp_path)
        assert trained_before(tmp_path) == LANES * STEPS / NUM_ITERATIONS * iteration
    run(STUDY, tmp_path)
    assert_whole(tmp_path, whole)


def test_a_checkpoint_of_fewer_seeds_goes_on_beside_the_new_ones(tmp_path):
    wider = small_study(**SHORT, seeds=(0, 1, 2))
    # Seed by seed, which needs no other program than the study's.
    run(wider, tmp_path / "whole", vmap_seeds=False)
    stop_after(3, STUDY, tmp_path / "grown")
    recorder = run(wider, tmp_path / "grown")
    assert recorder.noted(f"going on from iteration 2 of {NUM_ITERATIONS}")
    assert_same_results(tmp_path / "grown", tmp_path / "whole")
    assert checkpoints_of(tmp_path / "grown") == []


def test_lanes_in_two_checkpoints_are_trained_once(tmp_path, whole):
    """Stopped as a whole, then stopped again as a part: the part is not on its way any more."""
    stop_after(3, STUDY, tmp_path)
    part = small_study(**SHORT, techniques=("baseline",))
    stop_after(2, part, tmp_path)
    assert len(checkpoints_of(tmp_path)) == 2
    run(STUDY, tmp_path)
    assert_same_results(tmp_path, whole)
    assert checkpoints_of(tmp_path) == []


def test_checkpoints_of_other_studies_are_left_alone(tmp_path, whole):
    other = small_study(**SHORT, techniques=("dr",))
    stop_after(2, other, tmp_path)
    (saved,) = checkpoints_of(tmp_path)
    run(STUDY, tmp_path)
    run(STUDY, tmp_path, fresh=True)
    assert checkpoints_of(tmp_path) == [saved]
    recorder = run(other, tmp_path)
    assert recorder.noted("going on from iteration 1")


def test_fresh_discards_results_and_what_is_in_flight(tmp_path, whole):
    stop_after(3, STUDY, tmp_path)
    recorder = run(STUDY, tmp_path, fresh=True)
    assert not recorder.noted("going on")
    assert_whole(tmp_path, whole)
    before = identities(tmp_path)
    recorder = run(STUDY, tmp_path, fresh=True)
    assert len(recorder.env_steps) == NUM_ITERATIONS
    after = identities(tmp_path)
    assert all(before[name] != after[name] for name in before)
    assert_whole(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_chunk_and_the_same_command_goes_on(
    tmp_path, whole, number
):
    # The first line of a curve says that training is on its way.
    command = ["--verbose" if word == "--quiet" else word for word in COMMAND]
    with start_matrix(*command, "--out", str(tmp_path)) as process:
        assert process.stdout is not None
        out = [process.stdout.readline()]
        while " Step " not in out[-1]:
            out.append(process.stdout.readline())
            assert out[-1], process.communicate()
        process.send_signal(number)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this chunk (again: at once)" in err
    assert "Traceback" not in err
    assert "stopped at iteration" in rest
    assert "of ppo cartpole; the same command goes on from the last checkpoint" in rest
    (saved,) = checkpoints_of(tmp_path)
    iteration = checkpoint.read_meta(saved)["iteration"]
    out = assert_goes_on(tmp_path, whole)
    assert f"going on from iteration {iteration} of {NUM_ITERATIONS}" in out


# Two at once


def test_a_second_runner_is_refused(copied):
    before = digest(copied)
    with locked(open_store(copied)):
        process = run_matrix(*COMMAND, "--out", str(copied))
        analyst = run_matrix(*COMMAND, "--analyze", "--out", str(copied))
    for refused in (process, analyst):
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert refused.stderr == (
            f"matrix.py: {copied} is in use by another process (pid {os.getpid()} on "
            f"{socket.gethostname()}); "
            "wait until it ends, or give another folder\n"
        )
    assert digest(copied) == before


# Damage


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


DAMAGES = pytest.mark.parametrize("damage", [truncate, flip])


def damage_file(file: Path, damage) -> None:
    file.write_bytes(damage(file.read_bytes()))


def a_seed(root: Path, number: int) -> Path:
    return sorted(root.glob("runs/*/seed_*"))[number]


@DAMAGES
def test_damaged_results_are_named_and_computed_again_alone(copied, whole, damage):
    names = ("result.json", "history.npz", "provenance.json")
    damaged = [a_seed(copied, number) / name for number, name in enumerate(names)]
    before = identities(copied)
    for file in damaged:
        damage_file(file, damage)
    recorder = run(STUDY, copied)
    for file in damaged:
        (note,) = recorder.noted(f"damaged: {file}: ")
        experiment, seed = file.parts[-3].rsplit("-", 1)[0], int(file.parts[-2][-4:])
        assert note.endswith(f"; {experiment} seed {seed} is computed again")
    assert_whole(copied, whole)
    rewritten = {str(file.parent.relative_to(copied)) for file in damaged}
    after = identities(copied)
    changed = {str(Path(name).parent) for name in before if before[name] != after[name]}
    assert changed == rewritten
    # Only their lanes, not the study's.
    assert recorder.env_steps[-1] == len(damaged) * STEPS


@DAMAGES
def test_damaged_results_are_never_read(copied, damage):
    damage_file(a_seed(copied, 0) / "result.json", damage)
    damage_file(a_seed(copied, 1) / "history.npz", damage)
    process = run_matrix(*COMMAND, "--analyze", "--out", str(copied))
    assert process.returncode == 0
    assert process.stderr.count("left aside: ") == 2
    assert str(a_seed(copied, 0) / "result.json") in process.stderr
    assert "MISSING: 2 of 4 runs, of ppo_cartpole_" in process.stdout
    seeds = [line.split(",")[:5] for line in (copied / "results.csv").read_text().splitlines()]
    assert len({(line[0], line[4]) for line in seeds[1:]}) == 2


@DAMAGES
def test_a_damaged_spec_is_named_and_written_again(copied, whole, damage):
    file = sorted(copied.glob("runs/*/spec.json"))[0]
    before = identities(copied)
    damage_file(file, damage)
    recorder = run(STUDY, copied)
    assert recorder.noted(f"damaged, written again: {file}: ")
    assert recorder.env_steps == []
    assert identities(copied) == before
    assert_whole(copied, whole)


def largest_file(folder: Path) -> Path:
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


@DAMAGES
def test_a_damaged_checkpoint_is_named_and_trained_again(tmp_path, whole, damage):
    stop_after(3, STUDY, tmp_path)
    (saved,) = checkpoints_of(tmp_path)
    file = largest_file(saved)
    damage_file(file, damage)
    recorder = run(STUDY, tmp_path)
    assert recorder.noted(f"damaged checkpoint removed, its work is done again: {file}: ")
    assert len(recorder.env_steps) == NUM_ITERATIONS
    assert_whole(tmp_path, whole)


def saved_by(root: Path, batch: Batch) -> Path:
    """A stand-in for the checkpoint that a batch leaves when it is killed."""
    path = batch.checkpoint_path(Store(root))
    checkpoint.save(path, {"leaf": np.arange(1000)}, {"lanes": batch.identity})
    return path


def test_a_checkpoint_that_holds_the_lost_best_model_is_gone_on_from(copied):
    """Killed between its last result and its best model, and planned for workers since."""
    batch = Batch(STUDY.groups[0].lanes)
    path, store = saved_by(copied, batch), Store(copied)
    best_agent(copied).unlink()
    remove_useless(STUDY, store, KIND, pytest.fail)
    assert path.exists()
    (unit,) = make_units(STUDY, store, KIND, 2)
    assert unit.lanes_of(STUDY) == batch.lanes


@pytest.mark.parametrize("whole_file", [True, False])
def test_checkpoints_from_which_nothing_goes_on_are_removed_before_workers_start(
    copied, whole_file
):
    """Done, or damaged; those of other studies are left alone."""
    other = small_study(**SHORT, techniques=("dr",))
    kept, path = (saved_by(copied, Batch(study.groups[0].lanes)) for study in (other, STUDY))
    notes: list[str] = []
    if not whole_file:
        damage_file(largest_file(path), flip)
        Store(copied).discard(STUDY.groups[0].specs[0].name, 0)
    remove_useless(STUDY, Store(copied), KIND, notes.append)
    assert checkpoints_of(copied) == [kept]
    assert [note.split(",")[0] for note in notes] == (
        [] if whole_file else ["damaged checkpoint removed"]
    )


def test_a_checkpoint_that_does_not_fit_is_named_and_trained_again(tmp_path, whole):
    """Whole, but of a program that was another one."""
    stop_after(3, STUDY, tmp_path)
    (saved,) = checkpoints_of(tmp_path)
    tree, meta = checkpoint.load(saved)
    tree["carry"]["env_steps"] = tree["carry"]["env_steps"].astype(np.float32)
    checkpoint.save(saved, tree, meta)
    recorder = run(STUDY, tmp_path)
    assert recorder.noted("damaged checkpoint, training starts again: ")
    assert recorder.noted(r"leaf env_steps is float32[4], not int32[4]")
    assert_whole(tmp_path, whole)


# Agents, and copies of the best


def best_agent(root: Path) -> Path:
    """The file of the agent of which the best model is a copy."""
    best = json.loads((root / f"{BEST}_scores.json").read_text())
    return Store(root).seed_dir(best["run"], best["seed"]) / AGENT


@DAMAGES
def test_a_damaged_agent_is_refused_and_that_of_the_best_run_made_again(copied, whole, damage):
    before = identities(copied)
    file = best_agent(copied)
    damage_file(file, damage)
    with pytest.raises(DamagedFile, match=file.name):
        load_agent(file)
    recorder = run(STUDY, copied)
    (note,) = recorder.noted("the best agent of ppo_cartpole is missing (")
    assert str(file) in note
    assert note.endswith("is trained again for it")
    assert recorder.env_steps[-1] == STEPS
    after = identities(copied)
    assert {name for name in before if before[name] != after[name]} == {
        file.relative_to(copied).as_posix()
    }
    assert_whole(copied, whole)


def test_an_agent_that_is_a_copy_of_another_is_made_again(copied, whole):
    file = best_agent(copied)
    (other,) = {path for path in file.parents[1].glob(f"*/{AGENT}") if path != file}
    shutil.copy(other, file)
    assert run(STUDY, copied).noted("the best agent of ppo_cartpole is missing (")
    assert_whole(copied, whole)


def test_the_best_agent_is_found_without_reading_histories(copied, monkeypatch):
    """Every worker looks for it, one after the other, at the end of every batch."""
    monkeypatch.setattr(Store, "_history_bytes", lambda *arguments: pytest.fail("read"))
    group, store = STUDY.groups[0], Store(copied)
    assert lost_best(store, group) is None
    best_agent(copied).unlink()
    assert lost_best(store, group) is not None


@pytest.mark.parametrize("name", [f"{BEST}.npz", f"{BEST}_scores.json", "best_models"])
@pytest.mark.parametrize("damage", [None, lambda data: data[:-7]])
def test_copies_that_are_gone_or_damaged_are_made_again_without_training(
    copied, whole, name, damage
):
    path = copied / name
    if path.is_dir():
        shutil.rmtree(path)
    elif damage is None:
        path.unlink()
    else:
        damage_file(path, damage)
    assert not run(STUDY, copied).env_steps
    assert_whole(copied, whole)


@pytest.mark.parametrize("folder", [True, False])
def test_what_lies_in_the_place_of_a_copy_stays_and_costs_no_table(copied, whole, folder):
    path = copied / f"{BEST}.npz"
    path.unlink()
    if folder:
        path.mkdir()
    else:
        np.savez(path, mine=np.arange(3))
    store = Store(copied)
    (said,) = copy_best(store, read_records(store)[0])
    assert said.startswith(str(path)) and said.endswith("stays as it is; name a file that is new")
    assert not run(STUDY, copied).env_steps
    assert path.is_dir() if folder else np.load(path).files == ["mine"]


def test_only_the_best_agents_of_hundreds_are_kept(copied, whole, tmp_path):
    root = tmp_path / "few"
    run(STUDY, root, keep_agents=False)
    kept = {path.relative_to(root) for path in root.glob(f"runs/*/*/{AGENT}")}
    assert best_agent(root).relative_to(root) in kept and len(kept) <= 2
    for name in (f"{BEST}.npz", f"{BEST}_scores.json", "results.csv"):
        assert (root / name).read_bytes() == (whole / name).read_bytes()
    # Killed before it was written.
    best_agent(root).unlink()
    assert run(STUDY, root, keep_agents=False).noted("the best agent of ppo_cartpole is missing (")
    assert best_agent(root).read_bytes() == best_agent(copied).read_bytes()


def test_a_best_model_that_an_older_version_kept_as_a_folder_is_enough(copied):
    """It kept no others."""
    best = json.loads((copied / f"{BEST}_scores.json").read_text())
    arrays, meta = archives.load_described(copied / f"{BEST}.npz")
    for path in (*copied.glob(f"runs/*/*/{AGENT}"), *copied.glob("best_models/*.npz")):
        path.unlink()
    checkpoint.save(copied / BEST, arrays, meta | {"version": 1})
    assert not run(STUDY, copied).env_steps
    assert load_agent(copied / BEST).seed == best["seed"]
    assert json.loads((copied / "best_models/best_scores.json").read_text()) == {
        BEST.split("/")[1].removesuffix("_best"): best
    }


def test_fresh_leaves_no_agent_of_before(copied):
    for path in copied.glob(f"runs/*/*/{AGENT}"):
        path.write_bytes(b"old")
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        run(STUDY, copied, fresh=True, should_stop=lambda: next(calls) == 1)
    assert not list(copied.glob(f"runs/*/*/{AGENT}"))

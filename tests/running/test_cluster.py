"""Several processes on one results folder: who works on what, and that it changes no result."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from envs_jax import make_task
from experiments import matrix
from jaxgen.results.lock import InUse, StoreError, in_use, locked
from jaxgen.results.store import open_store
from jaxgen.running import command, runner
from jaxgen.running.kinds.matrix import KIND
from jaxgen.running.session import Interrupted, Options, Session
from jaxgen.running.workers import claims as claims_module
from jaxgen.running.workers import coordinate, cut, launch, status, worker
from jaxgen.running.workers.claims import DONE, FAILED, MAX_DEATHS, RELEASED, RUNNING, Claims
from jaxgen.running.workers.coordinate import planned, work
from jaxgen.running.workers.cut import MIN_LANES, make_units
from jaxgen.running.workers.settings import Launch, read_settings
from jaxgen.running.workers.status import kinds_of, status_text
from jaxgen.running.workers.units import Unit, read_units, write_plan
from jaxgen.running.workers.view import failures, progress_lines, taken_over
from jaxgen.running.workers.worker import Worker, WorkerReporter
from jaxgen.system.errors import BadInput
from small_runs import (
    MATRIX,
    SHORT,
    Recorder,
    assert_same_results,
    identities,
    kept_programs,
    refused,
    results_of,
    run,
    run_matrix,
    small_study,
    start_matrix,
)

# Claims


@pytest.fixture
def clock(monkeypatch):
    """The time that claims see, in a list."""
    now = [0.0]
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: now[0])
    return now


def claims_in(folder: Path, worker: str = "w", stale_seconds: float = 10.0) -> Claims:
    return Claims(folder, worker, stale_seconds)


def pass_time(clock: list[float], seconds: float, *watching: Claims) -> None:
    """Let time pass, in which these look at the claims as often as workers do."""
    until = clock[0] + seconds
    while clock[0] < until:
        clock[0] = min(until, clock[0] + 1.0)
        for own in watching:
            for attempt in own.attempts().values():
                own.is_stale(attempt)


def test_a_unit_is_taken_once(tmp_path):
    first, second = claims_in(tmp_path, "first"), claims_in(tmp_path, "second")
    assert first.take("a", None) is not None
    assert second.take("a", None) is None
    assert second.take("a", second.attempts()["a"]) is None
    assert second.take("b", None) is not None
    owners = {name: attempt.worker for name, attempt in first.attempts().items()}
    assert owners == {"a": "first", "b": "second"}


def test_of_many_that_take_at_once_one_succeeds(tmp_path):
    """Thirty-two threads, for a new unit and for one whose worker died."""
    everybody = [claims_in(tmp_path, str(number), stale_seconds=0.0) for number in range(32)]
    for number in range(3):
        last = everybody[0].attempts().get("a")
        taken, start = [], threading.Barrier(len(everybody))

        def take(own: Claims, last=last, taken=taken, start=start) -> None:
            start.wait()
            if own.take("a", last) is not None:
                taken.append(own.worker)

        threads = [threading.Thread(target=take, args=(own,)) for own in everybody]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        latest = everybody[0].attempts()["a"]
        assert (latest.number, latest.deaths, latest.worker) == (number + 1, number, taken[0])


def test_what_shows_no_sign_of_life_is_taken_over(tmp_path, clock):
    first, second = claims_in(tmp_path, "first"), claims_in(tmp_path, "second")
    claim = first.take("a", None)
    assert claim is not None

    def take():
        return second.take("a", second.attempts()["a"])

    assert take() is None
    pass_time(clock, 9.0, second)
    assert take() is None
    claim.write(RUNNING, share=0.5)
    assert take() is None
    pass_time(clock, 9.9, second)
    assert take() is None
    assert not claim.is_lost()
    clock[0] += 0.1
    assert take() is not None
    assert claim.is_lost()
    claim.write(DONE)
    assert second.attempts()["a"].state == RUNNING


def test_what_was_released_is_free_at_once_and_nobody_has_died(tmp_path, clock):
    first, second = claims_in(tmp_path, "first"), claims_in(tmp_path, "second")
    claim = first.take("a", None)
    assert claim is not None
    claim.write(RELEASED)
    assert second.take("a", second.attempts()["a"]) is not None
    assert second.attempts()["a"].deaths == 0


@pytest.mark.parametrize("shares", [[], [0.2, 0.2, 0.1], [0.0, 0.3, 0.3, 0.25]])
def test_a_unit_that_kills_its_workers_is_given_up(tmp_path, clock, shares):
    """By workers that come no further than others before them: who does was killed by chance."""
    own = claims_in(tmp_path)
    reports = [{"share": share} for share in shares] or [{}] * MAX_DEATHS
    claim = own.take("a", None)
    for death, report in enumerate(reports, 1):
        assert claim is not None
        claim.write(RUNNING, log="some.log", **report)
        pass_time(clock, 11.0, own)
        claim = own.take("a", own.attempts()["a"])
        assert (claim is None) == (death == len(reports))
    latest = own.attempts()["a"]
    assert (latest.state, latest.report["log"]) == (FAILED, "some.log")
    assert "3 workers ended without a word" in latest.report["error"]


def test_a_worker_is_dead_when_it_and_who_looks_say_so(tmp_path, clock):
    """Launchers may differ in --stale-seconds."""
    patient, hasty = claims_in(tmp_path, "patient", 20.0), claims_in(tmp_path, "hasty", 3.0)
    assert patient.take("a", None) is not None
    pass_time(clock, 20.0, hasty)
    assert hasty.take("a", hasty.attempts()["a"]) is None
    clock[0] += 1.0
    assert hasty.take("a", hasty.attempts()["a"]) is not None


def test_who_could_not_look_has_seen_no_silence(tmp_path, clock):
    """A file system that stood still, for all of them."""
    first, second = claims_in(tmp_path, "first"), claims_in(tmp_path, "second")
    assert first.take("a", None) is not None
    pass_time(clock, 2.0, second)
    clock[0] += 100.0
    assert second.take("a", second.attempts()["a"]) is None
    pass_time(clock, 10.0, second)
    assert second.take("a", second.attempts()["a"]) is not None


def test_what_is_just_being_written_is_no_claim(tmp_path):
    (tmp_path / ".tmp-a.1.json").write_text("{")
    assert claims_in(tmp_path).attempts() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "done"}', "null"])
def test_a_claim_that_was_never_written_whole_counts_as_silent(tmp_path, clock, content):
    """Its process died between the creation of the file and its first line."""
    (tmp_path / "a.1.json").write_text(content)
    own = claims_in(tmp_path)
    assert own.attempts()["a"].state == RUNNING
    assert own.take("a", own.attempts()["a"]) is None
    pass_time(clock, 10.0, own)
    assert own.take("a", own.attempts()["a"]) is not None


def test_signs_of_life_are_shown_while_the_block_runs(tmp_path):
    own = claims_in(tmp_path)
    claim = own.take("a", None)
    assert claim is not None
    with claim.beating(0.01, lambda: {"share": 0.25}):
        beats = set()
        until = time.monotonic() + 60
        while len(beats) < 4 and time.monotonic() < until:
            beats.add(own.attempts()["a"].report["beat"])
            time.sleep(0.005)
    assert len(beats) >= 4
    assert own.attempts()["a"].report["share"] == 0.25
    after = own.attempts()
    time.sleep(0.05)
    assert own.attempts() == after


# Units


@pytest.fixture(scope="module")
def study():
    """Six lanes and four."""
    ppo = small_study("ppo", seeds=(0, 1, 2))
    es = small_study("es", techniques=("baseline", "dr"), seeds=(0, 1))
    return type(ppo)((*ppo.groups, *es.groups))


@pytest.fixture(scope="module")
def inline(study, tmp_path_factory):
    """The folder of the study, run in this process."""
    root = tmp_path_factory.mktemp("inline")
    run(study, root)
    return root


SHORT_STUDY = small_study(**SHORT)
"""Four lanes, which are one unit."""


@pytest.fixture(scope="module")
def short_inline(tmp_path_factory):
    """The folder of the short study, run in this process."""
    root = tmp_path_factory.mktemp("short")
    run(SHORT_STUDY, root)
    return root


def lanes_in(units: list[Unit]) -> list[tuple[str, int]]:
    return sorted(lane for unit in units for lane in unit.lanes)


@pytest.mark.parametrize(("num_parts", "sizes"), [(1, [6, 4]), (2, [3, 3, 2, 2]), (9, [2] * 5)])
def test_units_hold_every_lane_once(study, tmp_path, num_parts, sizes):
    store = open_store(tmp_path)
    units = make_units(study, store, KIND, num_parts)
    every = sorted((spec.name, seed) for group in study.groups for spec, seed in group.lanes)
    assert lanes_in(units) == every
    assert sorted((len(unit.lanes) for unit in units), reverse=True) == sizes
    assert min(len(unit.lanes) for unit in units) >= MIN_LANES
    assert len({unit.name for unit in units}) == len(units)
    for unit in units:
        assert [(spec.name, seed) for spec, seed in unit.lanes_of(study)] == unit.lanes
    write_plan(store, study, units)
    assert read_units(store, study) == units
    assert read_units(store, study)[0].lanes == units[0].lanes


@pytest.mark.slow
def test_what_is_in_flight_comes_first_and_what_is_done_not_at_all(study, tmp_path):
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        run(study, tmp_path, max_lanes=3, should_stop=lambda: next(calls) == 60)
    store = open_store(tmp_path)
    done = {(run[0], run[1]) for run, kind in kinds_of(store)[0].items() if kind == "done"}
    flying = make_units(study, store, KIND, 2)[0]
    assert 0 < len(done) < 10
    assert len(flying.lanes) == 3
    assert not done & set(lanes_in(make_units(study, store, KIND, 2)))
    assert len(lanes_in(make_units(study, store, KIND, 2))) + len(done) == 10


def test_the_log_of_a_unit_with_a_long_name_is_a_name(study, tmp_path):
    group = replace(study.groups[0], algorithm="a" * 40, environment="b" * 40)
    assert open_store(tmp_path).path(f"{cut._name(3, group)}.log")


def test_a_plan_of_another_study_is_refused(study, tmp_path):
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="in use for another study"):
        read_units(store, study)
    write_plan(store, small_study("ppo"), [])
    with pytest.raises(StoreError, match="in use for another study"):
        read_units(store, study)


# Workers, in this process


def be_a_worker(study, root: Path, make=make_task, **changes) -> list[str]:
    store, how = open_store(root), Launch("local", 2, stale_seconds=1.0)
    options = Options(checkpoint_seconds=1e9, **changes)
    session = Session(store, make, options, Recorder(), KIND, {}, alone=False)
    return work(session, study, how, "its.log")


@pytest.mark.slow
def test_workers_one_after_the_other_make_what_one_process_makes(study, inline, tmp_path):
    store, how = open_store(tmp_path), Launch("local", 2, stale_seconds=1.0)
    calls = iter(range(1000))
    with planned(study, store, KIND, how, fresh=False) as (_, units):
        assert len(units) == 4
        with pytest.raises(Interrupted):
            be_a_worker(study, tmp_path, should_stop=lambda: next(calls) == 30)
        assert be_a_worker(study, tmp_path) == []
    assert_same_results(tmp_path, inline)
    for agent in inline.glob("runs/*/*/agent.npz"):
        assert (tmp_path / agent.relative_to(inline)).read_bytes() == agent.read_bytes()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_worker_goes_on_where_another_stopped(short_inline, tmp_path):
    store, how = open_store(tmp_path), Launch("local", 1, stale_seconds=1.0)
    calls = iter(range(1000))
    with planned(SHORT_STUDY, store, KIND, how, fresh=False) as (_, units):
        assert len(units) == 1
        with kept_programs():
            with pytest.raises(Interrupted):
                be_a_worker(SHORT_STUDY, tmp_path, should_stop=lambda: next(calls) == 2)
            assert list((tmp_path / "checkpoints").iterdir())
            assert be_a_worker(SHORT_STUDY, tmp_path) == []
    assert_same_results(tmp_path, short_inline)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_unit_that_fails_is_reported_and_the_others_are_done(study, tmp_path):
    def make(name: str, **options):
        if name == "cartpole" and not failed:
            failed.append(name)
            raise RuntimeError("the first unit\nhas two lines to say")
        return make_task(name, **options)

    failed: list[str] = []
    store, how = open_store(tmp_path), Launch("local", 2, stale_seconds=1.0)
    with planned(study, store, KIND, how, fresh=False) as (_, units):
        wrong = be_a_worker(study, tmp_path, make)
    assert len(wrong) == 1
    assert "failed: RuntimeError: the first unit; its log: its.log" in wrong[0]
    kinds, notes = kinds_of(store)
    counts = [list(kinds.values()).count(kind) for kind in ("done", "failed", "missing")]
    assert counts == [10 - len(units[0].lanes), len(units[0].lanes), 0]
    assert notes == wrong
    # The next start tries again.
    with planned(study, store, KIND, how, fresh=False) as (_, units):
        assert len(units) == 2
        assert be_a_worker(study, tmp_path) == []


def test_a_worker_whose_unit_was_taken_leaves_it_alone(tmp_path, monkeypatch):
    units = [Unit("a", 0, []), Unit("b", 0, [])]
    own, other = claims_in(tmp_path, "own"), claims_in(tmp_path, "other")
    monkeypatch.setattr(other, "is_stale", lambda attempt: True)
    worked = []

    def run_unit(unit: Unit, should_stop) -> None:
        worked.append(unit.name)
        if unit.name == "a":
            claim = other.take("a", other.attempts()["a"])
            assert claim is not None
            claim.write(DONE)
        assert not should_stop()

    reporter = WorkerReporter(Recorder())
    Worker(units, own, run_unit, reporter, "log", lambda: False).work()
    assert worked == ["a", "b"]
    assert {name: (a.worker, a.state) for name, a in own.attempts().items()} == {
        "a": ("other", DONE), "b": ("own", DONE)
    }


def test_a_claim_names_the_log_before_its_unit_can_kill_anything(tmp_path):
    own = claims_in(tmp_path)
    seen = []

    def run_unit(unit: Unit, should_stop) -> None:
        seen.append(own.attempts()["a"].report["log"])

    reporter = WorkerReporter(Recorder())
    Worker([Unit("a", 0, [])], own, run_unit, reporter, "its.log", lambda: False).work()
    assert seen == ["its.log"]


def test_workers_of_the_same_process_id_have_names_of_their_own():
    """In containers of one host name."""
    names = {worker.worker_name(), worker.worker_name(), worker.worker_name.__wrapped__()}
    assert len(names) == 2


def test_units_whose_workers_died_are_taken_last(tmp_path, clock):
    own, worked = claims_in(tmp_path), []
    assert claims_in(tmp_path, "dead").take("a", None) is not None
    pass_time(clock, 11.0, own)

    def run_unit(unit: Unit, should_stop) -> None:
        worked.append(unit.name)

    units = [Unit("a", 0, []), Unit("b", 0, [])]
    Worker(units, own, run_unit, WorkerReporter(Recorder()), "log", lambda: False).work()
    assert worked == ["b", "a"]


def test_a_full_disk_ends_a_worker_and_frees_its_unit(tmp_path):
    """The next unit would meet it too."""

    def run_unit(unit: Unit, should_stop) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    own, units = claims_in(tmp_path), [Unit("a", 0, []), Unit("b", 0, [])]
    worker = Worker(units, own, run_unit, WorkerReporter(Recorder()), "log", lambda: False)
    with pytest.raises(OSError, match="No space left"):
        worker.work()
    assert {name: attempt.state for name, attempt in own.attempts().items()} == {"a": RELEASED}
    assert launch.full_disk(units, own.attempts()) == "No space left on device"


def test_the_memory_of_a_failed_unit_is_freed_before_the_next(study, tmp_path, monkeypatch):
    """Not only after one that went well."""
    told: list[str] = []
    monkeypatch.setattr(coordinate, "release", lambda: told.append("release"))

    def run_lanes(*arguments) -> None:
        told.append("run")
        raise RuntimeError("no")

    monkeypatch.setattr(coordinate, "run_lanes", run_lanes)
    store, how = open_store(tmp_path), Launch("local", 1, stale_seconds=1.0)
    with planned(study, store, KIND, how, fresh=False):
        assert len(be_a_worker(study, tmp_path)) == 2
    assert told == ["release", "run"] * 2


# Locks


def test_workers_share_a_folder_and_others_stay_out(tmp_path):
    store = open_store(tmp_path)
    assert not in_use(store)
    with locked(store) as lock:
        assert in_use(store)
        lock.share()
        with (
            locked(store, shared=True),
            pytest.raises(InUse, match="in use by workers"),
            locked(store),
        ):
            pass
        assert in_use(store)
        with locked(store, shared=True):
            assert not lock.alone()
        assert lock.alone()
    assert not in_use(store)


def test_two_launchers_that_want_to_be_alone_are_so_in_turn(tmp_path):
    """Neither keeps what it shares while it waits."""
    store = open_store(tmp_path)
    with locked(store, shared=True) as first, locked(store, shared=True) as second:
        assert not first.alone()
        assert second.alone()
        assert not first.alone()


def test_who_waits_for_long_is_told(monkeypatch):
    answers, told = iter([False, False, True]), []
    monkeypatch.setattr(coordinate, "QUIET_SECONDS", 0.0)
    coordinate.wait_alone(SimpleNamespace(alone=lambda: next(answers)), told.append)  # pyright: ignore
    assert told == ["waiting for the other workers of this folder"]


def test_the_lock_names_workers_where_only_they_are_left(study, tmp_path):
    store, how = open_store(tmp_path), Launch("local", 2)
    name = rf"\(started by pid {os.getpid()} on {re.escape(socket.gethostname())}\)"
    with (
        planned(study, store, KIND, how, fresh=False),
        pytest.raises(InUse, match=f"in use by workers {name}; wait until"),
        locked(store),
    ):
        pass


def test_a_plan_that_is_exhausted_is_not_joined(study, tmp_path, monkeypatch):
    """Another launcher's units failed, and it is about to end: they are planned anew."""
    store, how = open_store(tmp_path), Launch("local", 1)
    monkeypatch.setattr(coordinate, "PATIENCE_SECONDS", 0.0)
    with ExitStack() as other:
        _, units = other.enter_context(planned(study, store, KIND, how, fresh=False))
        for unit in units:
            claim = claims_of(tmp_path).take(unit.name, None)
            assert claim is not None
            claim.write(FAILED, error="no")
        monkeypatch.setattr(coordinate.time, "sleep", lambda seconds: other.close())
        with planned(study, store, KIND, how, fresh=False) as (_, again):
            assert again == units
            assert claims_of(tmp_path).attempts() == {}


def test_a_plan_that_is_not_is_joined(study, tmp_path, monkeypatch):
    store, how = open_store(tmp_path), Launch("local", 1)
    monkeypatch.setattr(coordinate, "PATIENCE_SECONDS", 0.0)
    with planned(study, store, KIND, how, fresh=False) as (_, units):
        claim = claims_of(tmp_path).take(units[0].name, None)
        assert claim is not None
        with planned(study, store, KIND, Launch("local", 9), fresh=False) as (_, joined):
            assert joined == units
            assert claims_of(tmp_path).attempts().keys() == {units[0].name}


def claims_of(root: Path) -> Claims:
    return claims_in(root / "cluster" / "claims")


def test_who_shares_waits_for_who_is_alone_for_a_moment(tmp_path):
    store, order = open_store(tmp_path), []

    def share() -> None:
        with locked(store, shared=True):
            order.append("shared")

    with locked(store):
        thread = threading.Thread(target=share)
        thread.start()
        time.sleep(0.3)
        order.append("alone")
    thread.join()
    assert order == ["alone", "shared"]


# What a person sees


def test_the_view_of_the_workers(tmp_path):
    units = [Unit(name, 0, [("r", 0), ("r", 1)]) for name in "abcd"]
    own = claims_in(tmp_path, "host-7")
    for name, state, report in (
        ("a", DONE, {}),
        ("b", FAILED, {"error": "OSError: no", "log": "b.log"}),
        ("c", RUNNING, {"label": "ppo", "share": 0.456, "rate": 1.25e6, "seconds_left": 75.0}),
    ):
        claim = own.take(name, None)
        assert claim is not None
        claim.write(state, **report)
    attempts = own.attempts()
    assert progress_lines(units, attempts, 2) == [
        "2 workers: 1 of 4 units done, 1 failed",
        "  c, 2 runs, host-7: 46 %, 1.25 M steps/s, ETA 1:15",
    ]
    again = {"c": attempts["c"]._replace(number=2)}
    assert progress_lines(units[2:], again, 1, lambda attempt: 61.0) == [
        "1 worker: 0 of 2 units done",
        "  c, 2 runs, host-7 (attempt 2): no sign of life for 61 s, killed perhaps",
    ]
    assert taken_over(units, attempts) == []
    (words,) = taken_over(units, again)
    assert words.startswith("c (2 runs) was begun 2 times, as a worker that had it died or gave it")
    assert failures(units, attempts) == ["b (2 runs) failed: OSError: no; its log: b.log"]


@pytest.mark.slow
def test_the_status_of_a_folder(study, tmp_path, capsys):
    """Done, in flight, missing; nothing is changed, and no process is disturbed."""
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        run(study, tmp_path, max_lanes=3, should_stop=lambda: next(calls) == 60)
    store = open_store(tmp_path)
    write_plan(store, study)
    before = identities(tmp_path)
    with locked(store):
        assert "a process is at work here" in status_text(store)
    assert matrix.main(["--status", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["cell", "done", "running", "in", "flight", "failed", "missing"]
    assert len(lines) == 2 + 4
    assert lines[-1].split()[1:] == ["3", "-", "3", "-", "4"]
    assert identities(tmp_path) == before
    # Copies beside them are no runs.
    result = next(tmp_path.glob("runs/*/seed_*/result.json"))
    shutil.copytree(result.parent, f"{result.parent}.bak")
    shutil.copytree(result.parents[1], f"{result.parents[1]} (copy)")
    assert status_text(store).splitlines() == lines


def test_a_worker_that_is_silent_is_not_said_to_run(study, tmp_path):
    """While another process is at work; by the age of its last sign of life."""
    store, names = open_store(tmp_path), ("silent", "alive")
    lanes = [(spec.name, seed) for spec, seed in study.groups[0].lanes]
    units = [Unit(name, 0, [lane]) for name, lane in zip(names, lanes[:2], strict=True)]
    write_plan(store, study, units)
    for name in names:
        claim = claims_of(tmp_path).take(name, None)
        assert claim is not None
        claim.write(RUNNING, log=f"{name}.log")
    past = time.time() - 300
    os.utime(tmp_path / "cluster" / "claims" / "silent.1.json", (past, past))
    with locked(store):
        kinds, (note,) = kinds_of(store)
    assert [kinds[unit.lanes[0]] for unit in units] == ["missing", "running"]
    assert note.startswith("silent (1 runs) is silent: no sign of life of w for 300 s")
    assert note.endswith("its log: silent.log")


def test_who_may_not_open_the_lock_is_told_the_rest(study, tmp_path, monkeypatch):
    store = open_store(tmp_path)
    write_plan(store, study)

    def refuse(store):
        raise PermissionError(errno.EACCES, "Permission denied", "its/.lock")

    monkeypatch.setattr(status, "in_use", refuse)
    text = status_text(store)
    assert "cannot be told from its/.lock (Permission denied)" in text


# Bad input

REFUSED = [
    (["--isolated", "--launcher", "local"], "--isolated and --launcher local exclude each other"),
    (["--submit", "a=1"], "--submit asks a cluster for something; give --launcher slurm with it"),
    (["--workers", "4"], "--workers 4 is not allowed with --launcher inline or --isolated"),
    (["--workers", "1", "--isolated"], "--workers 1 is not allowed with --launcher inline or"),
    (["--launcher", "local", "--submit", "a"], "'a' is not allowed; use NAME=VALUE"),
    (["--launcher", "local", "--submit", "=1"], "'=1' is not allowed; use NAME=VALUE"),
    (["--launcher", "local", "--stale-seconds", "0"], "stale seconds 0.0 are not allowed"),
    (["--launcher", "local", "--stale-seconds", "nan"], "stale seconds nan are not allowed"),
    (["--status", "/nowhere"], "there are no results in /nowhere"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line(capsys, tmp_path, words, message):
    refused(matrix.main, "matrix.py", [*words, "--out", str(tmp_path / "out")], capsys, message)
    assert not (tmp_path / "out").exists()


def test_settings_of_a_cluster():
    words = ["timeout_min=600", "slurm_partition=gpu", "slurm_comment=a=b"]
    expected = {"timeout_min": 600, "slurm_partition": "gpu", "slurm_comment": "a=b"}
    assert read_settings(words) == expected


def test_a_missing_engine_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r'needs the package submitit.*"submitit>=1.5,<2"'):
        launch.make_executor("local", tmp_path, {})


def test_a_missing_cluster_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="--launcher slurm: "):
        launch.make_executor("slurm", tmp_path, {})


def test_a_cluster_that_refuses_the_workers_is_said_in_words():
    def map_array(*arguments):
        raise RuntimeError("sbatch: error: invalid partition specified: nowhere")

    executor = SimpleNamespace(map_array=map_array)
    with pytest.raises(ValueError, match="--launcher slurm: sbatch: error: invalid partition"):
        launch.start(executor, "slurm", ["true"], 1)


@pytest.mark.parametrize(
    ("words", "missing"),
    [(["--launcher", "local"], "submitit"), (["--isolated", "--tensorboard"], "tensorboardX")],
)
def test_nothing_is_discarded_where_a_package_is_missing(
    capsys, monkeypatch, tmp_path, words, missing
):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(coordinate, "discard", lambda *arguments: pytest.fail("discarded"))
    root = str(tmp_path / "out")
    refused(matrix.main, "matrix.py", [*words, "--fresh", "--out", root], capsys, missing)


# Processes in earnest

QUICK = (
    "--quick", "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "dr",
    "--num-seeds", "4", "--eval-episodes", "5", "--no-plots", "--stale-seconds", "10",
)  # fmt: skip


def words_of(root: Path, *more: str) -> list[str]:
    return [*QUICK, "--out", str(root), *more]


@pytest.fixture(scope="module")
def quick_inline(tmp_path_factory):
    root = tmp_path_factory.mktemp("quick") / "inline"
    found = run_matrix(*words_of(root))
    assert found.returncode == 0, found.stderr
    return root


def test_a_study_that_was_finished_has_nothing_missing(short_inline):
    kinds, notes = kinds_of(open_store(short_inline))
    paths = [Path(name) for name in results_of(short_inline) if name.endswith("result.json")]
    assert sorted(kinds) == sorted((path.parts[0], int(path.parts[1][5:])) for path in paths)
    assert set(kinds.values()) == {"done"}
    assert notes == []


@pytest.mark.slow
def test_two_local_workers_make_what_one_process_makes(quick_inline, tmp_path):
    root = tmp_path / "out"
    found = run_matrix(*words_of(root, "--launcher", "local", "--workers", "2"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 of 2 units done" in found.stdout
    assert_same_results(root, quick_inline)
    again = identities(root)
    found = run_matrix(*words_of(root, "--launcher", "local", "--workers", "2"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert identities(root) == again


@pytest.mark.slow
def test_isolated_programs_make_what_one_process_makes(quick_inline, tmp_path):
    found = run_matrix(*words_of(tmp_path / "out", "--isolated"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert_same_results(tmp_path / "out", quick_inline)


def test_an_isolated_program_that_is_killed_costs_itself_only(tmp_path):
    """A stand-in for the worker: the first unit kills itself, the second ends well."""
    claims = claims_in(tmp_path / "claims")
    units = [Unit(name, 0, [("r", 0)]) for name in ("a", "b", "c")]
    code = (
        "import os, sys; from pathlib import Path\n"
        "from jaxgen.running.workers.claims import Claims\n"
        "name = sys.argv[2]; print('unit', name, flush=True)\n"
        f"claim = Claims(Path({str(claims.folder)!r}), 'w', 9.0).take(name, None)\n"
        "if name == 'a': os.kill(os.getpid(), 9)\n"
        "if name == 'b': sys.exit(3)\n"
        "claim.write('done')\n"
    )
    wrong = launch.run_isolated(
        units, claims, [sys.executable, "-c", code], lambda unit: tmp_path / f"{unit.name}.log",
        lambda lines: None, lambda: False,
    )  # fmt: skip
    log = tmp_path / "a.log"
    assert wrong == [
        "a (1 runs) failed: its process was killed by signal 9, perhaps for its memory; "
        f"its log: {log}",
        f"b (1 runs) failed: its process ended with exit code 3; its log: {tmp_path / 'b.log'}",
    ]
    assert log.read_text() == "unit a\n"
    assert {name: attempt.state for name, attempt in claims.attempts().items()} == {
        "a": FAILED, "b": FAILED, "c": DONE
    }


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.0)


def test_no_isolated_program_is_begun_on_a_full_disk(tmp_path, no_pauses):
    claims, units = claims_in(tmp_path / "claims"), [Unit("a", 0, []), Unit("b", 0, [])]
    code = (
        "import sys; from pathlib import Path; from jaxgen.running.workers.claims import Claims\n"
        f"claim = Claims(Path({str(claims.folder)!r}), 'w', 9.0).take(sys.argv[2], None)\n"
        "claim.write('released', full='No space left on device')\n"
    )
    wrong = launch.run_isolated(
        units, claims, [sys.executable, "-c", code], lambda unit: tmp_path / f"{unit.name}.log",
        lambda lines: None, lambda: False,
    )  # fmt: skip
    assert wrong == []
    assert {name: attempt.state for name, attempt in claims.attempts().items()} == {"a": RELEASED}


def test_workers_that_cannot_start_are_reported(tmp_path):
    """What they printed is in a log of their own, which the first that they printed names."""
    code = (
        "from jaxgen.running.workers.worker import own_log\n"
        "from jaxgen.results.store import open_store\n"
        f"own_log(open_store({str(tmp_path / 'out')!r}), None); raise SystemExit('no, no')\n"
    )
    logs = tmp_path / "out" / "cluster" / "logs"
    executor = launch.make_executor("local", tmp_path / "jobs", {})
    wrong = launch.wait(
        [Unit("a", 0, [("r", 0)])], claims_in(tmp_path / "claims"),
        launch.start(executor, "local", [sys.executable, "-c", code], 1),
        logs, lambda lines: None, lambda: False,
    )  # fmt: skip
    # Replaced once: what kills every worker comes to an end.
    found = {log: log.read_text() for log in logs.iterdir()}
    assert list(found.values()) == ["no, no\n"] * 2
    replaced, left = wrong
    assert replaced == "1 of 1 workers died and were replaced"
    assert "no worker is left, and 1 units are not done (the first: a)" in left
    errors, folder = left.split("printed: ")[1].split(", and in ")
    assert folder == str(logs)
    texts = (Path(path).read_text() for path in errors.split(", "))
    printed = {text.split("prints into ")[1].strip() for text in texts}
    assert printed == {str(log) for log in found}


class Fake:
    """Workers that end once they have been told to stop so many times; never, where None."""

    def __init__(self, num_needed: int | None = None, num_alive: int = 1):
        self.num_needed, self.left, self.num_told, self.num_withdrawn = num_needed, num_alive, 0, 0

    def num_alive(self) -> int:
        return 0 if self.num_told == self.num_needed else self.left

    def replace(self, number: int) -> int:
        return 0

    def cancel(self) -> None:
        self.num_told += 1

    def withdraw(self) -> None:
        self.num_withdrawn += 1

    def logs(self) -> list[Path]:
        return [Path("its.err")]


def wait_for(workers: Fake, claims: Claims, tell=lambda lines: None, stop=False) -> list[str]:
    units = [Unit("a", 0, [("r", 0)])]
    return launch.wait(units, claims, workers, Path("logs"), tell, lambda: stop)


def test_a_unit_whose_workers_all_died_is_named_with_its_log(tmp_path):
    claim = claims_in(tmp_path).take("a", None)
    assert claim is not None
    claim.write(RUNNING, log="its.log")
    died, left = wait_for(Fake(num_alive=0), claims_in(tmp_path))
    assert died.startswith("a (1 runs): its worker w ended without a word")
    assert "its log: its.log; try --isolated" in died
    assert left.endswith("what they printed: its.err, and in logs")


def test_workers_are_told_to_stop_until_they_do(tmp_path, no_pauses):
    """While they start they do not hear it."""
    workers = Fake(num_needed=5)
    assert wait_for(workers, claims_in(tmp_path), stop=True) == []
    assert workers.num_told == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_workers_do_not_outlive_what_goes_wrong_in_their_launcher(tmp_path, error):
    def tell(lines: list[str]) -> None:
        raise error

    workers = Fake()
    with pytest.raises(error):
        wait_for(workers, claims_in(tmp_path), tell)
    assert workers.num_told == 1


def test_an_isolated_program_does_not_outlive_its_launcher(tmp_path, monkeypatch):
    def tell(lines: list[str]) -> None:
        raise KeyboardInterrupt

    def start(*arguments, **how):
        started.append(popen(*arguments, **how))
        return started[-1]

    started, popen = [], subprocess.Popen
    monkeypatch.setattr(launch.subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt):
        launch.run_isolated(
            [Unit("a", 0, [])], claims_in(tmp_path / "claims"),
            [sys.executable, "-c", "import time; time.sleep(60)"],
            lambda unit: tmp_path / "log", tell, lambda: False,
        )  # fmt: skip
    assert [process.wait(timeout=30) for process in started] == [-signal.SIGTERM]


def test_jobs_that_still_wait_for_a_machine_are_taken_back_when_all_is_over(tmp_path):
    claim = claims_in(tmp_path).take("a", None)
    assert claim is not None
    claim.write(DONE)
    workers = Fake()
    assert wait_for(workers, claims_in(tmp_path)) == []
    assert (workers.num_told, workers.num_withdrawn) == (0, 1)


def test_jobs_of_a_cluster_are_stopped_with_time_for_a_checkpoint(monkeypatch):
    told: list[list[str]] = []
    monkeypatch.setattr(launch.subprocess, "run", lambda words, **how: told.append(words))
    jobs = [SimpleNamespace(job_id="7_0"), SimpleNamespace(job_id="7_1")]
    workers = launch.SubmititWorkers("slurm", jobs, lambda number: [])
    workers.cancel()
    workers.cancel()
    assert told == [
        ["scancel", "--quiet", "--state=PENDING", "7_0", "7_1"],
        ["scancel", "--quiet", "--state=RUNNING", "--signal=TERM", "7_0", "7_1"],
    ]


def test_the_process_of_a_job_that_has_ended_is_not_signalled(monkeypatch):
    killed: list[int] = []
    monkeypatch.setattr(launch.os, "kill", lambda pid, number: killed.append(pid))
    jobs = [SimpleNamespace(job_id=str(n), done=lambda n=n: n == 1) for n in (1, 2)]
    launch.SubmititWorkers("local", jobs, lambda number: []).cancel()
    assert killed == [2]


def workers_of(root: Path) -> list[int]:
    """Process ids of the workers that hold claims."""
    folder = root / "cluster" / "claims"
    found = claims_in(folder).attempts().values() if folder.is_dir() else ()
    names = [a.worker for a in found if a.state == RUNNING and a.worker != "unknown"]
    return [int(name.rsplit("-", 2)[1]) for name in names]


@pytest.mark.slow
def test_of_four_workers_two_are_killed(quick_inline, tmp_path):
    """At moments that are as they come; what was finished stays as it is."""
    root = tmp_path / "out"
    words = words_of(root, "--launcher", "local", "--workers", "4", "--checkpoint-seconds", "0")
    with start_matrix(*words) as process:
        killed: list[int] = []
        until = time.monotonic() + 240
        while len(killed) < 2 and process.poll() is None and time.monotonic() < until:
            time.sleep(1.5)
            running = [pid for pid in workers_of(root) if pid not in killed]
            if running:
                os.kill(running[0], signal.SIGKILL)
                killed.append(running[0])
        finished = identities(root)
        out, err = process.communicate(timeout=300)
    assert len(killed) == 2
    assert process.returncode == 0, out + err
    assert "of 4 workers died and were replaced" in err
    assert_same_results(root, quick_inline)
    after = identities(root)
    done = [name for name in finished if name.endswith("result.json")]
    assert {name: finished[name] for name in done} == {name: after[name] for name in done}


@pytest.mark.slow
def test_ctrl_c_stops_workers_and_the_same_command_goes_on(quick_inline, tmp_path):
    root = tmp_path / "out"
    words = words_of(root, "--launcher", "local", "--workers", "2", "--checkpoint-seconds", "0")
    with start_matrix(*words) as process:
        until = time.monotonic() + 240
        while not workers_of(root) and time.monotonic() < until:
            time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "the same command goes on from the last checkpoint" in out
    assert not in_use(open_store(root))
    found = run_matrix(*words)
    assert found.returncode == 0, found.stdout + found.stderr
    assert_same_results(root, quick_inline)


# The command line, without training

SMALL = (
    "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "--seeds", "0", "1", "--quick"
)


@pytest.fixture
def no_start(monkeypatch):
    """Leaves JAX as it is, and draws nothing."""
    monkeypatch.setattr(command.platform, "configure", lambda *words, **more: None)
    monkeypatch.setattr(command, "seal_cache", lambda: None)
    monkeypatch.setattr(launch, "check_workers", lambda *arguments: None)
    monkeypatch.setattr(command, "_conclude", lambda *arguments: None)


@pytest.mark.parametrize(("backend", "share"), [("gpu", 1.0), ("cpu", 0.25)])
def test_local_workers_share_memory(no_start, monkeypatch, tmp_path, backend, share):
    """On a GPU each takes its part when it starts, and all of that part is its own."""
    variable, found = "XLA_PYTHON_CLIENT_MEM_FRACTION", []
    monkeypatch.setenv(variable, "")
    monkeypatch.delenv(variable)
    monkeypatch.setattr(command.platform, "confirm_backend", lambda *words: backend)
    monkeypatch.setattr(worker, "own_log", lambda store, unit: "log")
    shares = lambda session, *rest: found.append(session.options.memory_share)  # noqa: E731
    monkeypatch.setattr(coordinate, "work", shares)
    open_store(tmp_path)
    words = ("--launcher", "local", "--workers", "4", "--worker", "--out", str(tmp_path))
    assert matrix.main([*SMALL, *words]) == 0
    assert (os.environ[variable], found) == ("0.188", [share])


def test_what_went_wrong_is_said_on_a_stop_too_and_nothing_is_caught_up(
    no_start, monkeypatch, capsys, tmp_path
):
    """Writers would read every run that was done before."""

    def stopped(*arguments) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        return ["a unit failed"]

    sink = SimpleNamespace(name="sink", told=[], close=lambda: sink.told.append("close"))
    sink.has = lambda run: sink.told.append("has")
    monkeypatch.setattr(coordinate, "coordinate", stopped)
    monkeypatch.setattr(command, "_sinks", lambda *arguments: [sink])
    assert matrix.main([*SMALL, "--isolated", "--out", str(tmp_path / "out")]) == 130
    out, err = capsys.readouterr()
    assert "matrix.py: a unit failed" in err
    assert "stopped; the same command goes on" in out
    assert sink.told == ["close"]


@pytest.mark.parametrize(("num_missing", "code"), [(0, 0), (2, 1)])
def test_what_is_not_done_is_read_from_the_results(
    no_start, monkeypatch, capsys, tmp_path, num_missing, code
):
    """Another launcher's workers may have finished what this one's have left."""
    monkeypatch.setattr(coordinate, "coordinate", lambda *arguments: ["no worker is left"])
    monkeypatch.setattr(command, "_num_missing", lambda *arguments: num_missing)
    assert matrix.main([*SMALL, "--isolated", "--out", str(tmp_path / "out")]) == code
    err = capsys.readouterr().err
    assert ("2 of 2 runs are not done" in err) == bool(num_missing)


def test_an_error_of_training_is_none_of_the_input(no_start, monkeypatch, capsys, tmp_path):
    def fail(*arguments) -> None:
        raise error("of some kind")

    monkeypatch.setattr(command.platform, "confirm_backend", lambda *words: "cpu")
    monkeypatch.setattr(runner, "run_study", fail)
    words, error = [*SMALL, "--out", str(tmp_path / "out")], BadInput
    assert matrix.main(words) == 2
    assert capsys.readouterr().err == "matrix.py: of some kind\n"
    error = ValueError
    with pytest.raises(RuntimeError, match="what was done is kept: of some kind"):
        matrix.main(words)


def test_the_command_of_a_worker_is_its_launchers():
    found = launch.worker_command(MATRIX, ["--quick", "--out", "x"], Path("x"))
    out = str(Path.cwd() / "x")
    assert found == [
        sys.executable, str(MATRIX), "--quick", "--out", "x", "--out", out, "--worker"
    ]

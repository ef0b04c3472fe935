"""Signals, rights and workers of a command line, without training."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import matrix
from jaxgen.running import command, runner
from jaxgen.running.command import stop_flag
from jaxgen.running.session import Interrupted
from jaxgen.running.workers import launch
from jaxgen.running.workers.launch import check_workers, worker_command
from jaxgen.running.workers.units import plan_digest
from jaxgen.study.product import make_study
from jaxgen.system.errors import BadInput
from jaxgen.techniques import COMPONENTS, Technique
from small_runs import MATRIX, ROOT

SMALL = ("--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "--seeds", "0", "--quick")


@pytest.fixture
def no_start(monkeypatch):
    """Leaves JAX as it is, and concludes nothing."""
    monkeypatch.setattr(command.platform, "configure", lambda *words, **more: None)
    monkeypatch.setattr(command.platform, "confirm_backend", lambda *words: "cpu")
    monkeypatch.setattr(command, "seal_cache", lambda: None)
    monkeypatch.setattr(command, "_conclude", lambda *arguments: None)


# Signals


def raise_signal(number: int) -> bool:
    """Send a signal to this process; whether it stops at once."""
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        return True
    return False


def test_a_stop_is_heard_where_nothing_can_be_printed(monkeypatch):
    """Ctrl-C goes to both ends of a pipe, and `tee` has ended first; or the terminal is closed."""

    def refuse(descriptor, data):
        raise OSError(errno.EIO, "Input/output error")

    with stop_flag() as should_stop:
        monkeypatch.setattr(os, "write", refuse)
        raise_signal(signal.SIGINT)
        monkeypatch.undo()
        assert should_stop()


def unheard(number: int, frame: object) -> None:
    """Stands for what ends a process."""


@pytest.fixture
def before(request):
    """What is done at the end of a terminal."""
    original = signal.signal(signal.SIGHUP, request.param)
    yield request.param
    signal.signal(signal.SIGHUP, original)


@pytest.mark.parametrize("before", [unheard], indirect=True)
def test_the_end_of_a_terminal_is_a_stop_however_often_it_is_told(before):
    with stop_flag() as should_stop:
        assert not any(raise_signal(signal.SIGHUP) for _ in range(3))
        assert should_stop()
        assert raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.parametrize("before", [signal.SIG_IGN], indirect=True)
def test_under_nohup_the_end_of_a_terminal_is_nothing(before):
    with stop_flag() as should_stop:
        assert not raise_signal(signal.SIGHUP)
        assert not should_stop()
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.parametrize("before", [unheard], indirect=True)
def test_terminals_are_not_for_workers(before):
    with stop_flag(patient=True) as should_stop:
        assert not raise_signal(signal.SIGHUP) and not raise_signal(signal.SIGINT)
        assert not should_stop()
        assert not raise_signal(signal.SIGTERM) and not raise_signal(signal.SIGTERM)
        assert should_stop()


def test_local_workers_start_with_the_signals_of_terminals_ignored():
    """And so does what comes before the worker's own code."""

    def map_array(function, *words) -> list[Any]:
        handlers.append([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP)])
        return []

    handlers: list[Any] = []
    before = signal.getsignal(signal.SIGHUP)
    launch.start(SimpleNamespace(map_array=map_array), "local", ["worker"], 1)
    assert handlers == [[signal.SIG_IGN, signal.SIG_IGN]]
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_stop_whose_lines_nobody_reads_ends_with_130(no_start, monkeypatch, tmp_path):
    def train(study, store, make_task, reporter, kind, options) -> None:
        reporter.note("before")
        raise_signal(signal.SIGINT)
        reporter.progress("ppo cartpole", 1.0, 2.0, 1.0)
        assert options.should_stop()
        raise Interrupted("stopped at iteration 3")

    monkeypatch.setattr(runner, "run_study", train)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert matrix.main([*SMALL, "--out", str(tmp_path / "out")]) == command.INTERRUPTED
        monkeypatch.undo()


TEE = """
import os, signal, subprocess, sys, time
matrix, out, log = sys.argv[1:]
# Of a shell's background jobs it may be ignored, by tee as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
reader, writer = os.pipe()
words = "--env cartpole --algo ppo --technique baseline --seeds 0 --total-steps 1000000 "
words += f"--eval-episodes 5 --no-plots --checkpoint-seconds 1000 --out {out}"
study = subprocess.Popen([sys.executable, matrix, *words.split()], stdout=writer, stderr=writer)
os.close(writer)
tee = subprocess.Popen(["tee", log], stdin=reader, stdout=subprocess.DEVNULL)
os.close(reader)
while " % " not in open(log).read():
    time.sleep(0.2)
    assert study.poll() is None
tee.send_signal(signal.SIGINT)
tee.wait()
study.send_signal(signal.SIGINT)
print(study.wait(120))
"""


@pytest.mark.slow
def test_ctrl_c_under_tee_leaves_a_checkpoint(tmp_path):
    """What a terminal does: SIGINT to both ends of the pipe."""
    (tmp_path / "log").touch()
    words = [sys.executable, "-c", TEE, str(MATRIX), str(tmp_path / "out"), str(tmp_path / "log")]
    found = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert found.stdout == "130\n", found.stderr
    assert len(list((tmp_path / "out/checkpoints").iterdir())) == 1


# Rights


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_that_may_not_be_written_is_one_line(
    no_start, monkeypatch, capsys, tmp_path, number
):
    """A run's folder of another member of a group, or a disk that has become read-only."""

    def refuse(*arguments) -> None:
        raise OSError(number, os.strerror(number), "runs/x/spec.json")

    monkeypatch.setattr(runner, "run_study", refuse)
    assert matrix.main([*SMALL, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    start = f"matrix.py: runs/x/spec.json cannot be written or read ({os.strerror(number)}); "
    assert line.startswith(start)
    assert line.endswith("the same command goes on from the last checkpoint")


# Workers and what they know


@pytest.fixture
def registered():
    """A technique that another script has registered."""
    COMPONENTS["dr-wide"] = Technique(levels=(0.0, 0.25, 0.5))
    yield "dr-wide"
    del COMPONENTS["dr-wide"]


def test_what_another_script_has_registered_is_unknown_to_workers(registered, capsys, tmp_path):
    """Refused before anything is planned or discarded."""
    out = tmp_path / "out"
    words = [*SMALL, "--isolated", "--out", str(out)]
    words[words.index("baseline")] = registered
    assert matrix.main(words) == 2
    captured = capsys.readouterr().err
    assert f"workers start {MATRIX}, which does not know this study (" in captured
    assert "dr-wide" in captured and captured.count("\n") == 1
    assert not (out / "plan.json").exists()


def fake_worker(tmp_path: Path, said: str) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nassert sys.argv[1:] == ['--list']\nprint({said!r})\n")
    return [sys.executable, str(script)]


def test_workers_that_plan_other_runs_under_the_same_names_are_refused(tmp_path):
    """As where another script has changed a technique of that name."""
    study = make_study(["cartpole"], ["ppo"], ["baseline"], [0])
    check_workers(fake_worker(tmp_path, plan_digest(study)), MATRIX, study)
    with pytest.raises(BadInput, match=r"\(there, matrix.py plans other runs\)"):
        check_workers(fake_worker(tmp_path, "01234567"), MATRIX, study)


def test_a_script_that_was_started_itself_asks_no_worker(monkeypatch):
    main: Any = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(MATRIX), raising=False)
    study = make_study(["cartpole"], ["ppo"], ["baseline"], [0])
    check_workers(["/nowhere"], MATRIX, study)


def test_a_worker_says_what_it_plans(capsys):
    """Without a remark in front, such as on what `--all` leaves out."""
    words = [*SMALL, "--all"][2:]
    assert matrix.main([*words, "--worker", "--list"]) == 0
    out = capsys.readouterr().out
    command_line = worker_command(MATRIX, words, ROOT)
    found = subprocess.run([*command_line, "--list"], capture_output=True, text=True)
    assert found.stdout == out and len(out) == 9

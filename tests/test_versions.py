"""The matrix of versions: its plan, its table, what it does without an interpreter or uv."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import versions
from versions import NAMES, Outcome, bounds, counts, main, requirements, table

THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite
name="pytest" errors="1" failures="2" skipped="3" tests="10" time="4.5"/></testsuites>"""


@pytest.fixture
def suites(monkeypatch):
    """Stands in for environments and their suites: verdicts by name."""
    verdicts = dict.fromkeys(NAMES, "ok")
    monkeypatch.setattr(versions, "find_uv", lambda: ["uv"])
    monkeypatch.setattr(versions, "find_python", lambda version, uv: f"/bin/python{version}")
    monkeypatch.setattr(
        versions, "run_suite", lambda name, python, uv, args: Outcome(name, verdicts[name])
    )
    return verdicts


def test_the_plan_is_printed_and_nothing_is_done(monkeypatch, capsys):
    monkeypatch.setattr(versions, "find_uv", lambda: None)
    monkeypatch.setattr(versions, "find_python", lambda version, uv: f"/bin/python{version}")
    monkeypatch.setattr(versions, "run_suite", lambda *args: pytest.fail("a suite was run"))
    assert main(["--list", "--only", "3.13-newest", "3.12-locked"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "3.12-locked: /bin/python3.12; --no-deps -r requirements.lock -e .",
        "3.13-newest: /bin/python3.13; -e '.[test,starpilot,watch]' --overrides overrides.txt "
        "--constraints constraints.txt",
    ]


def test_on_a_cpu_known_bad_series_are_left_out():
    assert bounds(None)["--constraints"] == [
        "jax!=0.10.*", "jax!=0.11.*", "jaxlib!=0.10.*", "jaxlib!=0.11.*",
    ]  # fmt: skip
    assert bounds("cuda12")["--constraints"] == []
    assert "numpy>=2" in bounds(None)["--overrides"]


@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_jax_brings_its_plugin(name, tmp_path):
    """Its dependencies are not among the locked ones."""
    words = requirements(name, tmp_path, "cuda12")
    assert "jax[cuda12]" in words
    assert "--no-deps" not in words


def test_this_interpreter_is_found_and_an_unknown_one_is_not(monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert versions.find_python(THIS, None)
    assert versions.find_python("3.99", None) is None


def test_a_shim_that_starts_nothing_is_no_interpreter(monkeypatch, tmp_path):
    shim = tmp_path / f"python{THIS}"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert versions.find_python(THIS, None) is None


def test_what_failed_or_is_missing_makes_the_exit_code(suites, monkeypatch, capsys, tmp_path):
    assert main(["--envs", str(tmp_path)]) == 0
    suites["3.12-newest"] = "not installed"
    assert main(["--envs", str(tmp_path)]) == 1
    assert main(["--envs", str(tmp_path), "--only", "3.12-locked"]) == 0
    monkeypatch.setattr(versions, "find_python", lambda version, uv: None)
    capsys.readouterr()
    assert main(["--envs", str(tmp_path), "--only", "3.11-locked"]) == 1
    assert "3.11-locked: no interpreter" in capsys.readouterr().out
    assert main(["--envs", str(tmp_path), "--skip-missing"]) == 0


def test_without_uv_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(versions, "find_uv", lambda: None)
    assert main(["--envs", str(tmp_path / "envs")]) == 2
    assert "pip install uv" in capsys.readouterr().err
    assert not (tmp_path / "envs").exists()


def test_an_environment_is_made_filled_and_tested(monkeypatch, tmp_path):
    """The commands are stood in for; the last one fails."""
    commands = []

    def run(command, log, gpu):
        commands.append(shlex.join(command))
        if "pytest" in command:
            (tmp_path / "3.12-locked.xml").write_text(REPORT)
        return "pytest" not in command

    monkeypatch.setattr(versions, "_succeeds", run)
    args = versions.parse(["--envs", str(tmp_path), "--pytest", "-q -k 'a b'"])
    found = versions.run_suite("3.12-locked", "/bin/python3.12", ["uv"], args)
    home = tmp_path / "3.12-locked"
    assert commands == [
        f"uv venv --no-config --seed --python /bin/python3.12 {home}",
        f"uv pip install --no-config --python {home}/bin/python "
        "--no-deps -r requirements.lock -e .",
        f"{home}/bin/python -m pytest --junitxml={home}.xml -q -k 'a b'",
    ]
    assert (found.verdict, found.counts, found.versions) == ("failed", (4, 3, 3), {})
    assert found.log == tmp_path / "3.12-locked.log"


def test_a_suite_that_wrote_no_report_has_no_counts(tmp_path):
    assert list(counts(tmp_path / "none.xml")) == ["-", "-", "-"]


def test_the_table_has_a_line_for_each_environment():
    held = {"jax": "0.9.2", "flax": "0.12.6", "numpy": "2.5.5", "orbax-checkpoint": "0.12.8"}
    tested = Outcome("3.12-locked", "ok", held, (100, 0, 2), 61.4, Path("a.log"))
    lines = table([tested, Outcome("3.13-newest")]).splitlines()
    assert [line.split() for line in lines] == [
        ["environment", *held, "passed", "failed", "skipped", "seconds", "verdict", "log"],
        ["3.12-locked", *held.values(), "100", "0", "2", "61", "ok", "a.log"],
        ["3.13-newest", *"-------", "0", "no", "interpreter", "-"],
    ]


def test_it_starts_without_the_packages_that_it_installs():
    done = subprocess.run(
        [sys.executable, "-S", "-E", versions.__file__, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "3.13-newest" in done.stdout

"""The command line of the package: what it checks, draws and refuses."""

import dataclasses
import importlib
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

from envs_jax import make_task, procgen_games
from envs_jax.mujoco import engine as mujoco_engine
from jaxgen import evaluate, preset, save_agent
from jaxgen.__main__ import describe_level, main, procgen_to_check
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.host_episodes import (
    QueuedEpisodes,
    first_images,
    make_host_episodes,
    play,
)
from jaxgen.evaluation.policy import Acting
from jaxgen.evaluation.suite import Film
from jaxgen.nn.ops import greedy
from jaxgen.report.practice import films
from jaxgen.system import doctor
from jaxgen.system.doctor import Finding, Games
from jaxgen.training.keys import evaluation_key
from small_runs import refused

ROOT = Path(__file__).parents[1]


def needs_procgen(test):
    """Skip where there is no procgen; let its import leave a file open, as it does."""
    skip = pytest.mark.skipif(bool(procgen_games.missing()), reason="procgen is missing")
    return skip(pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")(test))


@cache
def random_agent(environment):
    """An agent with the parameters that training begins with."""
    task = make_task(environment)
    config = preset("ppo", environment)
    agent = Agent("ppo", "baseline", config, task.spec.stacked(config.num_frames), np.zeros(0))
    functions = agent.functions()
    params = jax.jit(lambda key: functions.params(functions.init(key)))(jax.random.key(0))
    return agent._replace(params=np.asarray(params))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Gives the file of a random agent."""
    root = tmp_path_factory.mktemp("agents")

    def of(environment):
        path = root / f"ppo_{environment}_best.npz"
        if not path.exists():
            save_agent(path, random_agent(environment))
        return path

    return of


# Bad input

NAMES = "use one of cartpole, minigrid, starpilot, or of the others pendulum, "
REFUSED = [
    (["levels", "pong"], f"environment 'pong' is unknown; {NAMES}"),
    (["levels", "../cartpole"], f"environment '../cartpole' is unknown; {NAMES}"),
    (["levels", "cartpole", "--levels", "0", "1.5"],
     "variation level 1.5 is not allowed; use one in [0, 1]"),
    (["levels", "cartpole", "--levels", "-0.1"],
     "variation level -0.1 is not allowed; use one in [0, 1]"),
    (["levels", "cartpole", "--levels", "nan"],
     "variation level nan is not allowed; use one in [0, 1]"),
    (["levels", "cartpole", "--levels", *["0"] * 33], "--levels: 33 of them are not allowed; "),
    (["levels", "cartpole", "--count", "0"], "--count: 0 of them are not allowed; use 1 to 32"),
    (["levels", "cartpole", "--count", "33"], "--count: 33 of them are not allowed; use 1 to 32"),
    (["levels", "cartpole", "--seed", "-1"], "seed -1 is not allowed; use whole numbers from 0 "),
    (["levels", "cartpole", "--out", "sheet.jpg"],
     "--out sheet.jpg is not allowed; name a .png file"),
    (["levels", "cartpole", "--out", "file/sheet.png"],
     "file/sheet.png cannot be written (Not a directory); name another file with --out"),
    (["levels", "cartpole", "--out", "folder.png"],
     "--out folder.png is not allowed; name a .png file"),
    (["watch", "empty"], "; give the file of an agent, which a study keeps in RESULTS/best_m"),
    (["watch", "nowhere"], "nowhere: there is no agent; give the file of an agent, which "),
    (["watch", "file"], "file: it is no npz file; give the file of an agent, which "),
    (["watch", "empty", "--level", "2"], "variation level 2 is not allowed; use one in [0, 1]"),
    (["watch", "empty", "--episodes", "0"], "--episodes: 0 of them are not allowed; use 1 to 10"),
    (["watch", "empty", "--episodes", "11"], "--episodes: 11 of them are not allowed; use 1 to 1"),
    (["watch", "empty", "--out", "clip.mp4"], "--out clip.mp4 is not allowed; name a .gif file"),
]  # fmt: skip
"""Words of the command line and a part of the message that they meet."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with an empty folder, a file and a folder named like an image."""
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "folder.png"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    return tmp_path


def assert_refused(capsys, words, message):
    refused(main, "jaxgen", [str(word) for word in words], capsys, message)


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line(capsys, here, words, message):
    before = sorted(here.iterdir())
    assert_refused(capsys, words, message)
    assert sorted(here.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_access_is_refused(capsys, here):
    (here / "empty").chmod(0o500)
    assert_refused(capsys, ["levels", "cartpole", "--out", "empty/x.png"], "(Permission denied)")


def test_agents_that_cannot_play_are_refused(capsys, here):
    agent = random_agent("cartpole")
    pong, grid = (dataclasses.replace(agent.spec, name=name) for name in ("pong", "minigrid"))
    diverged = np.full(len(agent.params), np.nan, np.float32)
    for bad, message in (
        (agent._replace(spec=pong), f"environment 'pong' is unknown; {NAMES}"),
        (agent._replace(spec=grid), "an agent of minigrid cannot act in minigrid; make the task "),
        (agent._replace(params=diverged), "ppo with seed 0 diverged, so that it has no returns"),
    ):
        save_agent("bad", bad)
        assert_refused(capsys, ["watch", "bad"], message)


@pytest.mark.parametrize("words", [[], ["paint"], ["levels"], ["watch", "x", "--level", "low"]])
def test_words_that_cannot_be_read_are_refused(capsys, words):
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    assert "usage: jaxgen" in capsys.readouterr().err


def test_doctor_works_where_nothing_is_installed(tmp_path):
    """NumPy and JAX cannot be imported, and no package is known."""
    code = (
        "import importlib.metadata, sys\n"
        "sys.modules.update(numpy=None, jax=None)\n"
        "def version(name): raise importlib.metadata.PackageNotFoundError(name)\n"
        "importlib.metadata.version = version\n"
        "from jaxgen.system import doctor\n"
        "doctor.run_child = lambda *args: doctor.Child([], 'no jax')\n"
        "from jaxgen.__main__ import main\n"
        f"sys.exit(main(['doctor', '--out', {str(tmp_path)!r}]))\n"
    )
    done = run_python(code)
    assert done.returncode == 1
    assert done.stderr == ""
    for line in (
        "PROBLEM  jax and jaxlib are not installed; run: pip install --no-deps -r requirements",
        "PROBLEM  flax is not installed; ",
        "PROBLEM  JAX does not start (no jax); ",
        "PROBLEM  procgen: the check itself failed (ModuleNotFoundError: ",
        f"OK       results folder {tmp_path} can be written",
    ):
        assert line in done.stdout


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_help_and_bad_input_do_not_import_jax():
    code = (
        "import contextlib, runpy, sys\n"
        "for words in (['--help'], ['levels', '--help'], ['levels', 'pong'],\n"
        "              ['watch', 'x', '--level', '3'], ['nonsense']):\n"
        "    sys.argv[1:] = words\n"
        "    try: runpy.run_module('jaxgen', run_name='__main__')\n"
        "    except SystemExit as end: print('code', end.code)\n"
        "assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("code")]
    assert codes == ["code 0", "code 0", "code 2", "code 2", "code 2"]
    assert "doctor" in done.stdout and "watch" in done.stdout


# doctor


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def quick(monkeypatch):
    """Without the checks that take seconds."""
    for name in ("check_start", "check_libraries", "check_procgen"):
        monkeypatch.setattr(doctor, name, lambda *args: [])


def statuses(findings):
    return [finding.status for finding in findings]


def test_doctor_finds_this_installation_in_order(capsys, tmp_path):
    assert main(["doctor", "--out", str(tmp_path / "results")]) == 0
    *lines, counts = lines_of(capsys)
    assert all(line.split()[0] in ("OK", "WARNING") for line in lines)
    assert counts == f"{len(lines) - warned(lines)} OK, {warned(lines)} WARNING, 0 PROBLEM"
    text = "\n".join(lines)
    for what in (
        f"OK       Python {sys.version_info.major}.", " CPU core", " GB available",
        f"jax {jax.__version__}, jaxlib", "flax ", "optax ", "orbax-checkpoint ", "gymnax ",
        "chex ", f"JAX computes on {jax.default_backend()}, ", "compilation cache /", "jaxlib: ",
        "/results can be written", " GB free",
    ):
        assert what in text
    if not procgen_games.missing():
        assert "OK       procgen: 16 games run" in text
        assert "levels 0 to 9 are distinct, and the same each time" in text
    if not mujoco_engine.missing():
        assert "OK       mujoco 3.17.0" in text
    assert not list(tmp_path.iterdir())


def warned(lines):
    return sum(line.startswith("WARNING") for line in lines)


def test_without_procgen_all_else_is_checked(capsys, tmp_path, monkeypatch):
    for name in ("check_start", "check_libraries"):
        monkeypatch.setattr(doctor, name, list)
    monkeypatch.setattr(procgen_games, "installed", lambda: False)
    assert main(["doctor", "--out", str(tmp_path)]) == 0
    lines = lines_of(capsys)
    remedy = procgen_games.missing()
    assert f"WARNING  Starpilot is not available; {remedy}" in lines
    assert any("can be written" in line for line in lines)
    assert_refused(
        capsys, ["levels", "starpilot"], f"environment 'starpilot' cannot be played: {remedy}"
    )


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (None, "mujoco is not installed; install it"),
        ("3.10.0", "mujoco 3.10.0 computes other numbers than 3.17.0; install that"),
    ],
)
def test_without_this_mujoco_all_else_is_checked(capsys, tmp_path, monkeypatch, found, what):
    for name in ("check_start", "check_libraries"):
        monkeypatch.setattr(doctor, name, list)
    monkeypatch.setattr(procgen_games, "installed", lambda: False)
    monkeypatch.setattr(mujoco_engine, "installed", lambda: found)
    assert main(["doctor", "--out", str(tmp_path)]) == 0
    remedy = f'{what}: pip install "mujoco==3.17.0"'
    assert f"WARNING  MuJoCo's robots are not available; {remedy}" in lines_of(capsys)
    for name in ("halfcheetah", "HalfCheetah-v5"):
        assert_refused(
            capsys, ["levels", name], f"environment {name!r} cannot be played: {remedy}"
        )


def test_a_library_of_the_system_that_procgen_lacks_is_named(capsys, tmp_path, monkeypatch):
    """By doctor and by the first error, with the package that has it."""
    for name in ("check_start", "check_libraries"):
        monkeypatch.setattr(doctor, name, list)
    monkeypatch.setattr(procgen_games, "installed", lambda: True)
    monkeypatch.setattr(procgen_games, "missing_libraries", lambda: ("libGL.so.1",))
    what = (
        "procgen needs libGL.so.1, which this system lacks; install it, on Debian or Ubuntu: "
        "apt-get install libgl1"
    )
    main(["doctor", "--out", str(tmp_path)])
    assert f"WARNING  Starpilot is not available; {what}" in lines_of(capsys)
    assert_refused(
        capsys, ["levels", "starpilot"], f"environment 'starpilot' cannot be played: {what}"
    )
    block = procgen_games.Block(procgen_games.Levels("easy", 0, 1), 0, 1)
    with pytest.raises(procgen_games.ProcgenMissing, match="cannot be played: procgen needs libGL"):
        procgen_games.make_states("starpilot", [block])


def test_libraries_are_looked_for_by_loading_them(monkeypatch):
    monkeypatch.setattr(procgen_games, "SYSTEM_LIBRARIES", {"libc.so.6": "libc6", "libno.so": "no"})
    procgen_games.missing_libraries.cache_clear()
    assert procgen_games.missing_libraries() == ("libno.so",)
    monkeypatch.setattr(procgen_games, "installed", lambda: True)
    assert "apt-get install no" in (procgen_games.missing() or "")
    procgen_games.missing_libraries.cache_clear()


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("OSError: libX11.so.6: cannot open shared object file: No such file or directory",
         "install the package of your system that has the library which is named"),
        ("signal SIGABRT", "install procgen anew: pip install"),
    ],
)  # fmt: skip
def test_a_new_procgen_is_no_remedy_for_a_library_of_the_system(monkeypatch, fault, remedy):
    monkeypatch.setattr(doctor, "failing_games", lambda games: {"coinrun": fault})
    monkeypatch.setattr(doctor, "run_child", lambda *words: doctor.Child([], fault))
    for finding in doctor.check_procgen(games("a")):
        assert finding.status == "PROBLEM" and finding.remedy.startswith(remedy)


def test_a_problem_gives_exit_code_1(capsys, quick, here):
    assert main(["doctor", "--out", "file"]) == 1
    *_, problem, counts = lines_of(capsys)
    assert problem == (
        "PROBLEM  results folder file cannot be written (Not a directory); "
        "choose another one with --out"
    )
    assert counts.endswith(", 1 PROBLEM")


def test_a_check_that_raises_is_a_problem_and_the_rest_goes_on(capsys, quick, here, monkeypatch):
    def broken():
        raise LookupError("no such core")

    monkeypatch.setattr(doctor, "check_cores", broken)
    monkeypatch.setattr(procgen_games, "GAMES", ())
    assert main(["doctor"]) == 1
    lines = lines_of(capsys)
    assert (
        "PROBLEM  cores: the check itself failed (LookupError: no such core); "
        "mend what the error names, or report it"
    ) in lines
    assert any(line.endswith("results folder results can be written") for line in lines)


def test_what_is_handed_in_may_raise():
    def broken():
        raise ImportError("no numpy")

    checks = doctor.all_checks(Path("."), broken, broken)
    for name in ("procgen", "mujoco"):
        (finding,) = doctor.examine({name: checks[name]})
        assert finding.status == "PROBLEM"
        assert f"{name}: the check itself failed (ImportError: no numpy)" in finding.what


def test_python_and_memory(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    for kilobytes, status in ((2_000_000, "WARNING"), (8_000_000, "OK")):
        meminfo.write_text(f"MemTotal: 16000000 kB\nMemAvailable: {kilobytes} kB\n")
        (finding,) = doctor.check_memory(meminfo)
        assert finding.status == status
        assert f"{kilobytes * 1024 / 1e9:.1f} GB available" in finding.what
    (finding,) = doctor.check_memory(tmp_path / "none")
    assert finding.status == "OK"
    version = namedtuple("version", "major minor micro")
    monkeypatch.setattr(sys, "version_info", version(3, 10, 4))
    (finding,) = doctor.check_python()
    assert finding == Finding("PROBLEM", "Python 3.10.4", "use Python 3.11 or newer")


def test_little_disk_space_is_a_warning(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 8, 10**9))
    written, disk = doctor.check_out(tmp_path / "not" / "yet")
    assert (written.status, disk.status) == ("OK", "WARNING")
    assert disk.what == "disk: 1.0 GB free where results go"


@pytest.mark.parametrize(
    ("versions", "status", "what"),
    [
        ({"jax": "0.9.2", "jaxlib": "0.9.2"}, "OK", "jax 0.9.2, jaxlib 0.9.2"),
        ({"jax": "0.9.2", "jaxlib": "0.9.1"}, "WARNING", "jax 0.9.2, jaxlib 0.9.1: two versions"),
        ({"jax": "0.9.2"}, "PROBLEM", "jaxlib is not installed"),
        ({}, "PROBLEM", "jax and jaxlib are not installed"),
    ],
)
def test_versions_of_jax(monkeypatch, versions, status, what):
    monkeypatch.setattr(doctor, "_version", versions.get)
    (finding,) = doctor.check_versions()
    assert (finding.status, finding.what) == (status, what)
    assert bool(finding.remedy) == (status != "OK")


def test_libraries_that_are_missing_or_broken(monkeypatch):
    def imported(module):
        if module == "optax":
            raise OSError("wrong ELF class")

    versions = {name: "1.0" for name in doctor.LIBRARIES if name != "flax"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(importlib, "import_module", imported)
    flax, optax, *others = doctor.check_libraries()
    assert flax.what == "flax is not installed"
    assert optax.what == "optax 1.0 cannot be imported (OSError: wrong ELF class)"
    assert statuses([flax, optax, *others]) == ["PROBLEM"] * 2 + ["OK"] * 3


def test_a_jaxlib_that_is_wrong_on_a_cpu_is_a_problem_there(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    finding = doctor.check_jaxlib("cpu")
    assert finding.status == "PROBLEM"
    assert finding.what.startswith("jaxlib 0.10.2 deadlocks")
    assert finding.remedy.startswith('install another one: pip install "jax==0.9.2"')
    assert doctor.check_jaxlib("gpu").status == "OK"


def test_a_jax_that_does_not_start_is_a_problem(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    (finding,) = doctor.check_start()
    assert finding.status == "PROBLEM"
    assert finding.what.startswith("JAX does not start (exit code 1: ")
    assert "abacus" in finding.what


def test_the_compilation_cache(tmp_path):
    assert doctor.check_cache(str(tmp_path), []).status == "OK"
    (tmp_path / "file").write_text("")
    bad = doctor.check_cache(str(tmp_path / "file" / "x"), [])
    assert bad.status == "WARNING" and "(Not a directory)" in bad.what
    none = doctor.check_cache(None, ["no compilation cache (why): slow; set XDG_CACHE_HOME"])
    assert none == Finding("WARNING", "no compilation cache (why): slow", "set XDG_CACHE_HOME")


PLAY = """
import os, sys, time
for game in sys.argv[1:]:
    if game == "aborts": os.abort()
    if game == "raises": raise ValueError("no such theme")
    if game == "leaves": sys.exit(0)
    if game == "hangs": time.sleep(60)
    print(game, flush=True)
"""
SHOW = "import sys\nfor level in range(int(sys.argv[1])): print({})\n"


def games(*names, shown="level, level"):
    return Games(names, lambda: None, PLAY, SHOW.format(shown))


def test_games_that_end_their_process_are_named_and_the_others_tried(monkeypatch):
    assert doctor.failing_games(games("a", "aborts", "b", "raises", "leaves", "c")) == {
        "aborts": "signal SIGABRT",
        "raises": "exit code 1: ValueError: no such theme",
        "leaves": "it ended without a word",
    }
    monkeypatch.setattr(doctor, "GAMES_SECONDS", 1.0)
    assert doctor.failing_games(games("a", "hangs", "b")) == {
        "hangs": "no answer within 1 s", "b": "not tried, the time was up",
    }


def test_failing_games_are_one_problem():
    broken, levels = doctor.check_procgen(games("a", "aborts", "b"))
    assert (broken.status, levels.status) == ("PROBLEM", "OK")
    assert broken.what == "procgen: 1 of 3 games do not run (aborts: signal SIGABRT)"


@pytest.mark.parametrize(
    ("shown", "what"),
    [
        ("level // 2, level // 2", "only 5 differ"),
        ("level, level + (level == 3)", "another one each time in 3"),
        ("level / 0", "cannot be shown (exit code 1: ZeroDivisionError: division by zero)"),
    ],
)
def test_levels_that_are_not_what_they_should_be_are_a_problem(shown, what):
    finding = doctor.check_levels(games("a", shown=shown))
    assert finding.status == "PROBLEM"
    assert what in finding.what


def test_doctor_is_asked_about_all_games():
    assert procgen_to_check().names == procgen_games.GAMES


# levels


def draw(words, tmp_path, capsys):
    """Run the command -> the image."""
    path = tmp_path / "new" / "sheet.png"
    assert main(["levels", *words, "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as image:
        image.load()
    assert image.format == "PNG"
    return np.asarray(image)


def sheet_height(*heights):
    """Margins and title, and for each row its label, its images and a gap."""
    return 2 * 16 + 2 * 20 + sum(24 + height + 12 for height in heights)


def test_a_sheet_of_cartpole_shows_longer_poles(tmp_path, capsys):
    sheet = draw(["cartpole", "--levels", "0", "1", "--count", "2"], tmp_path, capsys)
    assert sheet.shape == (sheet_height(200, 200), 2 * 16 + 2 * 300 + 12, 3)
    pole = (sheet == (202, 152, 101)).all(-1)
    rows = np.split(pole.any(1), [sheet_height(200) - 16])
    assert rows[1].sum() > 1.5 * rows[0].sum() > 50


def test_a_sheet_of_the_grid_shows_larger_rooms_and_more_obstacles(tmp_path, capsys):
    sheet = draw(["minigrid", "--levels", "0", "1", "--count", "3"], tmp_path, capsys)
    # The column is as wide as the largest room.
    assert sheet.shape == (sheet_height(120, 240), 2 * 16 + 3 * 240 + 2 * 12, 3)
    obstacle = (sheet == (70, 110, 230)).all(-1).sum(1)
    above, below = np.split(obstacle, [sheet_height(120) - 16])
    assert below.sum() == 4 * above.sum() > 0


@needs_procgen
def test_a_sheet_of_starpilot_shows_what_evaluation_begins_with(tmp_path, capsys):
    sheet = draw(["starpilot", "--levels", "0", "0.75", "--count", "4"], tmp_path, capsys)
    assert sheet.shape == (sheet_height(128, 128), 2 * 16 + 4 * 128 + 3 * 12, 3)
    suite = make_host_episodes(make_task("starpilot"), evaluation_key(0), (0.0, 0.75), 4)  # pyright: ignore
    shown = suite.episodes.start(np.arange(8), np.arange(8))
    for number, image in enumerate(shown):
        top = 16 + 40 + 24 + (number // 4) * (24 + 128 + 12)
        left = 16 + (number % 4) * (128 + 12)
        drawn = sheet[top : top + 128 : 2, left : left + 128 : 2]
        np.testing.assert_array_equal(drawn, image)
    again = draw(["starpilot", "--count", "4", "--seed", "1"], tmp_path, capsys)
    assert again.shape[0] == sheet_height(128, 128, 128)
    assert (again[80:208] != sheet[80:208]).any()


def test_more_images_than_slots_are_drawn():
    """Toy episodes whose image is their number."""

    class Episodes:
        shape = (3, 3)

        def start(self, slots, episodes):
            shown = np.zeros((2, 1, 1, 3), np.uint8)
            shown[slots] = np.asarray(episodes)[:, None, None, None]
            return shown

    toy = QueuedEpisodes(Episodes(), 2, lambda num_words: np.zeros(0))  # pyright: ignore
    images = first_images(toy, lambda slot, seen: seen)
    numbers = [[int(image[0, 0, 0]) for image in row] for row in images]
    assert numbers == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize(
    ("name", "level", "text"),
    [
        ("cartpole", 0.5, "v = 0.5: gravity 12.25 m/s2, pole 1.5 m, cart 1.5 kg"),
        ("minigrid", 1.0, "v = 1: 12 x 12 cells with the walls, 8 obstacles"),
        ("starpilot", 0.0, "v = 0: easy seen x 8"),
        ("starpilot", 0.25, "v = 0.25: easy seen x 4, easy unseen x 4"),
        ("starpilot", 0.75, "v = 0.75: easy unseen x 4, hard unseen x 4"),
        ("starpilot", 1.0, "v = 1: hard unseen x 8"),
    ],
)
def test_rows_say_what_is_played(name, level, text):
    assert describe_level(make_task(name), level, 8) == text


def test_the_default_is_a_file_in_this_folder(here, capsys):
    assert main(["levels", "cartpole", "--count", "1"]) == 0
    assert capsys.readouterr().out == "levels_cartpole.png\n"
    assert (here / "levels_cartpole.png").read_bytes().startswith(b"\x89PNG")


# watch


def watch(words, capsys):
    """Run the command -> what it prints of each episode, the animation's images and times."""
    assert main(["watch", *map(str, words)]) == 0
    head, *lines = lines_of(capsys)
    episodes = [line for line in lines if "return" in line]
    (path,) = (line for line in lines if line.endswith(".gif"))
    with Image.open(path) as animation:
        assert (animation.format, animation.info["loop"]) == ("GIF", 0)
        images, times = [], []
        for image in ImageSequence.Iterator(animation):
            times.append(image.info["duration"])
            images.append(np.asarray(image.convert("RGB")))
    return head, [_numbers(line) for line in episodes], images, times


def _numbers(line):
    """``episode 0: return 12, length 12`` -> (12.0, 12)."""
    words = line.rpartition(":")[2].replace(",", "").split()
    return float(words[1]), int(words[3])


def clip_time(num_frames):
    """Milliseconds of a clip: 15 frames a second, the last one for a second."""
    return sum((70, 70, 60)[i % 3] for i in range(num_frames - 1)) + 1000


@pytest.mark.parametrize("words", [["matrix", "--list", "--env", "cartpole"], ["report", "--help"]])
def test_the_scripts_are_commands_too(words, capsys):
    try:
        assert main(words) == 0
    except SystemExit as stopped:
        assert stopped.code == 0
    out = capsys.readouterr().out
    assert "ppo on cartpole" in out if "matrix" in words else "usage: report.py" in out


def test_a_script_without_a_checkout_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("jaxgen.__main__.__file__", str(tmp_path / "jaxgen" / "__main__.py"))
    assert main(["matrix", "--list"]) == 2
    assert "matrix needs the checkout of jaxgen, which is not around" in capsys.readouterr().err


def test_watching_cartpole(folder, here, capsys):
    words = [folder("cartpole"), "--level", 1, "--episodes", 3]
    head, episodes, images, times = watch(words, capsys)
    assert head.startswith("ppo baseline on cartpole (greedy), v = 1: gravity 14.7 m/s2")
    # Those of the evaluation, which has a loop of its own.
    expected = evaluate(random_agent("cartpole"), make_task("cartpole"), (0, 1), episodes=3)[1]  # pyright: ignore
    assert [total for total, _ in episodes] == expected.tolist()
    assert [length for _, length in episodes] == expected.tolist()
    assert images[0].shape == (200, 300, 3)
    assert sum(times) == sum(clip_time(length + 1) for _, length in episodes)
    assert (here / "watch_ppo_cartpole_best.gif").exists()


def test_watching_the_best_the_median_and_the_worst(folder, here, capsys):
    """Of 7 episodes, in the order in which they are asked for, each once."""
    agent, task = random_agent("cartpole"), make_task("cartpole")
    returns = evaluate(agent, task, (0, 1), episodes=7)[0]  # pyright: ignore
    words = ["watch", folder("cartpole"), "--episodes", 7, "--pick", "worst", "best", "median"]
    assert main([*map(str, words)]) == 0
    lines = lines_of(capsys)[1:4]
    order = np.argsort(returns, kind="stable")
    for line, name, number in zip(lines, words[-3:], order[[0, -1, 3]], strict=True):
        assert line.startswith(f"{name} of 7, episode {number}: return {returns[number]:.4g}, ")
    with Image.open("watch_ppo_cartpole_best.gif") as animation:
        times = [image.info["duration"] for image in ImageSequence.Iterator(animation)]
    assert sum(times) == sum(clip_time(int(returns[number]) + 1) for number in order[[0, 3, -1]])


def test_a_film_of_many_steps_leaves_some_out(folder, here, capsys, monkeypatch):
    """Of 500 steps at most 50 images are kept, each tenth and the last."""
    monkeypatch.setattr(films, "MAX_FRAMES", 50)
    _, ((total, length),), _, times = watch([folder("cartpole")], capsys)
    assert total == length and sum(times) == clip_time(1 + -(-length // 10))


def test_an_mp4_lies_beside_the_gif(folder, here, capsys, monkeypatch):
    """As many frames as steps and the start, and the last one for a second; without the package
    there is none, and a film that fails leaves nothing."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    agent = folder("cartpole")
    assert main(["watch", str(agent)]) == 0
    *_, line, gif, film = lines_of(capsys)
    assert film == gif.replace(".gif", ".mp4")
    words = [ffmpeg.get_ffmpeg_exe(), "-i", film, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(words, capture_output=True, check=True).stdout
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, 200, 300, 3)
    assert len(pictures) == _numbers(line)[1] + 15
    with Image.open(gif) as animation:
        first = np.asarray(animation.convert("RGB")).astype(int)
    assert np.abs(pictures[0] - first).mean() < 6
    np.testing.assert_allclose(pictures[-15:], pictures[-1:].repeat(15, 0), atol=12)
    monkeypatch.setattr(films, "can_write_mp4", lambda: False)
    assert main(["watch", str(agent), "--out", "other.gif"]) == 0
    assert lines_of(capsys)[-1] == "other.gif"
    assert sorted(path.name for path in here.glob("*.mp4")) == [Path(film).name]


@pytest.mark.slow
def test_watching_the_grid(folder, tmp_path, capsys):
    words = [folder("minigrid"), "--sampled", "--seed", 3, "--out", tmp_path / "grid.gif"]
    head, ((total, length),), images, times = watch(words, capsys)
    assert head == (
        "ppo baseline on minigrid (sampled), v = 0: 6 x 6 cells with the walls, 2 obstacles"
    )
    assert images[0].shape == (240, 240, 3)
    assert sum(times) == clip_time(length + 1)
    goal = (np.abs(images[0].astype(int) - (60, 170, 80)).max(-1) < 8).sum()
    assert goal == 40 * 40
    assert (total > 0) == (length < 100)


@pytest.fixture
def rank_promotion():
    """The encoders of images add their biases so."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
@needs_procgen
@pytest.mark.usefixtures("rank_promotion")
def test_watching_starpilot(folder, tmp_path, capsys):
    words = [folder("starpilot"), "--level", 1, "--episodes", 2, "--out", tmp_path / "x.gif"]
    head, episodes, images, times = watch(words, capsys)
    assert head == "ppo baseline on starpilot (greedy), v = 1: hard unseen x 2"
    agent, task = random_agent("starpilot"), make_task("starpilot")
    suite = make_host_episodes(task, evaluation_key(0), (1.0,), 2)  # pyright: ignore
    first = suite.episodes.start(np.arange(2), np.arange(2))[0]
    choose = lambda obs, words: greedy(agent.preferences(obs))  # noqa: E731
    returns = play(task.spec, suite, Acting(choose), 4).returns
    assert [total for total, _ in episodes] == returns[0].tolist()
    # The last step shows the next episode, which is left out.
    assert len(images) == sum(length for _, length in episodes)
    assert sum(times) == sum(clip_time(length) for _, length in episodes)
    assert images[0].shape == (256, 256, 3)
    for row, column in ((0, 0), (3, 3), (1, 2)):
        np.testing.assert_array_equal(images[0][row::4, column::4], images[0][::4, ::4])
    # A palette has 256 colours.
    assert np.abs(images[0][::4, ::4].astype(int) - first).mean() < 4


def test_frames_that_repeat_stay_for_longer():
    still, other = (Image.new("P", (4, 4), color) for color in (0, 1))
    for image in (still, other):
        image.putpalette([0, 0, 0, 255, 255, 255])
    clip = Film([still, still.copy(), other], 2, 0.0)
    with Image.open(io.BytesIO(films.to_gif([clip, clip]))) as animation:
        times = [image.info["duration"] for image in ImageSequence.Iterator(animation)]
    assert times == [140, 1000, 140, 1000]

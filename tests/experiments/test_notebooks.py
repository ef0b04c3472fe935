"""The notebooks: what is committed, what their first cell would do, and that they run."""

import base64
import io
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement
from PIL import Image

from envs_jax import unavailable
from experiments.notebooks import setup_runtime
from experiments.notebooks.setup_runtime import missing_games, missing_packages
from jaxgen.system import platform

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "notebooks"
PICTURES = {
    "01_quickstart": 4, "02_your_own": 3, "03_hundreds_of_seeds": 3,
    "04_starpilot": 0 if "starpilot" in unavailable() else 1, "05_tune": 4, "06_cheetah": 2,
}  # fmt: skip
"""How many PNGs each notebook shows, at least."""
FILMS = {"06_cheetah": 1} | ({} if "starpilot" in unavailable() else {"04_starpilot": 1})
"""How many animations."""
NAMES = list(PICTURES)
SECONDS = 1200
"""Time after which a notebook is taken to hang."""


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


# What is committed


def test_these_are_the_notebooks():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_and_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    identities = [cell.id for cell in notebook.cells]
    assert len(set(identities)) == len(identities)
    for cell in code_cells(name):
        assert cell.outputs == [] and cell.execution_count is None, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_the_badge_opens_this_notebook(name):
    first = read(name).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    (badge,) = re.findall(r"\[!\[Open In Colab\]\([^)]*\)\]\(([^)]*)\)", first.source)
    site = "https://colab.research.google.com/github/jaxgen/jaxgen/blob/main/"
    path = badge.removeprefix(site)
    assert path != badge and ROOT / path == FOLDER / f"{name}.ipynb"


def texts(name):
    return "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    """Absolute ones, since Colab knows no others."""
    for target in re.findall(r"[^!]\[[^\]]*\]\(([^)]*)\)", texts(name)):
        assert target.startswith("https://"), target
        path = target.removeprefix("https://github.com/jaxgen/jaxgen/blob/main/")
        assert path.startswith("https://") or (ROOT / path).is_file(), target


def test_numbers_are_those_of_the_study():
    (quoted,) = re.findall(r"dr - baseline is (\S+ \[\S+ \S+\]) in A_ood", texts(NAMES[0]))
    assert f"PPO on CartPole ({quoted[:-1]}" in (ROOT / "experiments" / "RESULTS.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_code_is_plain_python_that_installs_nothing(name):
    """No magics and no shell: what is installed is decided by the tested helper alone."""
    for cell in code_cells(name):
        compile(cell.source, cell.id, "exec")
        assert not re.search(r"\bpip\b", cell.source), cell.id
        assert max(map(len, cell.source.splitlines())) <= 100, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_the_budget_is_one_variable_at_the_top(name):
    first, second = (cell.source for cell in code_cells(name)[:2])
    assert len(first.splitlines()) <= 25
    assert f'prepare("{name}"' in first
    assert second.startswith('BUDGET = "small" if runtime.backend == "cpu" else "full"\n')


def test_first_cells_are_alike():
    beginnings = {code_cells(name)[0].source.partition("prepare(")[0] for name in NAMES}
    assert len(beginnings) == 1


# The first cell


@pytest.fixture
def first_cell(monkeypatch):
    """Runs the first cell of a notebook in a folder; gives root, helper's folder and commands."""
    asked, commands = [], []
    helper = types.ModuleType("setup_runtime")
    helper.prepare = lambda *args, **options: asked.append((args, options))  # pyright: ignore
    monkeypatch.setitem(sys.modules, "setup_runtime", helper)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))

    def run(name, folder):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", ["untouched"])
        variables = {}
        exec(code_cells(name)[0].source.partition("\n\nPLAYABLE")[0], variables)
        assert sys.path[1:] == ["untouched"]
        return variables["root"], Path(sys.path[0]), commands, asked

    return run


@pytest.mark.parametrize("folder", [FOLDER, ROOT, ROOT / "jaxgen" / "report"])
def test_a_checkout_is_found_by_looking_upward(first_cell, folder):
    root, path, commands, asked = first_cell("01_quickstart", folder)
    assert (root, path, commands) == (ROOT, FOLDER, [])
    assert asked == [(("01_quickstart",), {})]


def test_without_a_checkout_one_is_cloned_into_this_folder(first_cell, tmp_path):
    root, path, commands, asked = first_cell("04_starpilot", tmp_path)
    assert root == tmp_path / "jaxgen" and path == root / "experiments" / "notebooks"
    address = "https://github.com/jaxgen/jaxgen"
    assert commands == [["git", "clone", "-q", "--depth=1", address, str(root)]]
    assert asked == [(("04_starpilot",), {"games": True})]


def test_what_was_cloned_is_not_cloned_again(first_cell, tmp_path):
    helper = tmp_path / "jaxgen" / "experiments" / "notebooks" / "setup_runtime.py"
    helper.parent.mkdir(parents=True)
    helper.touch()
    root, path, commands, _ = first_cell("02_your_own", tmp_path)
    assert (root, path, commands) == (tmp_path / "jaxgen", helper.parent, [])


# What would be installed

REQUIRED = [Requirement(text) for text in ("jax>=0.7,<0.12", "numpy>=2.0,<3", "flax>=0.11,<0.14")]
PINS = {"jax": "0.9.2", "numpy": "2.4.6", "flax": "0.12.6"}
NO_FLAX = {"jax": "0.7.2", "numpy": "2.0.2"}
COLAB, OLD_FLAX = NO_FLAX | {"flax": "0.11.2"}, NO_FLAX | {"flax": "0.10.0"}


@pytest.mark.parametrize(
    "found, gpu, wanted",
    [
        # All is here, in whatever version fits: also one with a local label, or a later one.
        (PINS, False, []),
        (COLAB, True, []),
        (PINS | {"jax": "0.11.1+cuda12"}, True, []),
        (PINS | {"jax": "0.12.0.dev20261101"}, True, RuntimeError),
        # A jax of the machine's own stays, named with its version, and flax is one that suits it.
        (OLD_FLAX, False, ["flax<0.14,>=0.11", "jax==0.7.2", "numpy==2.0.2"]),
        (NO_FLAX, True, ["flax<0.14,>=0.11", "jax==0.7.2", "numpy==2.0.2"]),
        # Where there is no jax it is the locked one, on a GPU with the packages of CUDA.
        ({}, False, ["jax==0.9.2", "numpy==2.4.6", "flax==0.12.6"]),
        ({"numpy": "2.1.0"}, True, ["jax[cuda12]==0.9.2", "flax==0.12.6", "numpy==2.1.0"]),
        # Not for a notebook to replace.
        (PINS | {"jax": "0.6.2"}, False, RuntimeError),
        (PINS | {"numpy": "1.26.4"}, False, RuntimeError),
    ],
)  # fmt: skip
def test_only_what_is_missing_is_installed(found, gpu, wanted):
    if wanted is RuntimeError:
        with pytest.raises(RuntimeError, match=r"and a notebook does not replace it: .*%pip"):
            missing_packages(REQUIRED, found, PINS, gpu)
    else:
        assert missing_packages(REQUIRED, found, PINS, gpu) == wanted


def test_games_are_installed_as_locked_and_only_where_there_are_any():
    pins = {"procgen-mirror": "0.10.7", "gym3": "0.3.3", "pillow": "13.0.0", "jax": "0.9.2"}
    assert missing_games({}, pins) == ["procgen-mirror==0.10.7", "gym3==0.3.3", "pillow==13.0.0"]
    assert missing_games({"pillow": "11.0.0", "gym3": "0.3.3"}, pins) == ["procgen-mirror==0.10.7"]
    # Python 3.13, or another system: the lock file has no procgen for it.
    assert missing_games({}, {"pillow": "13.0.0"}) == []


def test_the_games_are_all_that_the_lock_file_has_for_them():
    """Their lines are those for one kind of machine; six packages have other users as well."""
    lines = map(Requirement, (ROOT / "requirements.lock").read_text().splitlines())
    # Box2D is for tests of Gymnasium's environments.
    own = {each.name for each in lines if "x86_64" in str(each.marker)} - {"box2d"}
    shared = {"cffi", "cloudpickle", "glfw", "imageio", "pillow", "pycparser"}
    assert own | shared == set(setup_runtime.GAMES)


def test_requirements_and_pins_are_those_of_the_project():
    names = {requirement.name for requirement in setup_runtime.read_requirements()}
    pins = setup_runtime.read_pins()
    assert {"jax", "jaxlib", "flax", "gymnax", "matplotlib"} <= names <= pins.keys()
    assert pins["jax"] == pins["jaxlib"] == platform.KNOWN_GOOD


@pytest.fixture
def pip(monkeypatch):
    """What pip is asked for; it does nothing."""
    asked = []
    monkeypatch.setattr(setup_runtime, "run_pip", asked.append)
    return asked


def test_nothing_is_installed_where_all_is_here(pip):
    assert setup_runtime.install_missing(games=False) == pip == []


def hide(monkeypatch, *names):
    """Let packages not be installed."""
    find = setup_runtime.find_versions
    left_out = lambda asked: find([name for name in asked if name not in names])  # noqa: E731
    monkeypatch.setattr(setup_runtime, "find_versions", left_out)


def test_extras_of_a_notebook_are_installed_with_the_rest(pip, monkeypatch):
    hide(monkeypatch, "optuna", "mujoco")
    assert setup_runtime.install_missing(games=False) == []
    (tune,) = setup_runtime.install_missing(games=False, extras=("tune",))[:1]
    assert tune.startswith("optuna<")
    assert "mujoco==3.17.0" in setup_runtime.install_missing(games=False, extras=("mujoco",))


def test_a_missing_package_is_installed_beside_the_jax_that_is_here(pip, monkeypatch):
    hide(monkeypatch, "gymnax")
    (arguments,) = asked = [setup_runtime.install_missing(games=False)]
    assert asked == pip
    assert [each for each in arguments if "==" not in each] == ["gymnax<2,>=1.0"]
    here = setup_runtime.find_versions(["jax", "jaxlib", "numpy"])
    assert {f"{name}=={version}" for name, version in here.items()} < set(arguments)


def test_a_notebook_goes_on_without_games_that_cannot_be_installed(monkeypatch, capsys):
    def fail(arguments):
        assert arguments == ["--no-deps", "procgen-mirror==0.10.7"]
        raise RuntimeError("pip failed: no route to host")

    monkeypatch.setattr(setup_runtime, "run_pip", fail)
    monkeypatch.setattr(setup_runtime, "missing_games", lambda *_: ["procgen-mirror==0.10.7"])
    assert setup_runtime.install_missing(games=True) == []
    assert capsys.readouterr().out == "pip failed: no route to host\n"


def test_a_failure_of_pip_is_shown(capsys):
    with pytest.raises(RuntimeError, match="pip failed: .*jaxgen-has-no-such-package"):
        setup_runtime.run_pip(["--no-index", "jaxgen-has-no-such-package"])
    said = "python -m pip install -q --no-index jaxgen-has-no-such-package\n"
    assert capsys.readouterr().out == said


# Where it runs


def test_a_jaxlib_that_is_known_to_be_wrong_is_refused_with_the_remedy(monkeypatch):
    def refuse():
        platform.check_jaxlib("0.10.2")

    monkeypatch.setattr(platform, "configure", refuse)
    with pytest.raises(RuntimeError) as error:
        setup_runtime.start_jax()
    assert str(error.value).startswith("jaxlib 0.10.2 deadlocks ")
    assert "on a CPU. Choose a runtime with a GPU, or run this in a cell" in str(error.value)
    assert "\n    %pip install jax==0.9.2 jaxlib==0.9.2 flax==0.12.6\n" in str(error.value)
    assert "--allow-known-bad" not in str(error.value)


def test_other_faults_are_passed_on():
    assert setup_runtime.remedy("device 'gpu' was not found", PINS) == "device 'gpu' was not found"


def test_settings_that_come_too_late_ask_for_a_new_kernel(monkeypatch):
    def refuse():
        raise RuntimeError("JAX has started")

    monkeypatch.setattr(platform, "configure", refuse)
    with pytest.raises(RuntimeError, match="JAX has started: restart the kernel and run this cell"):
        setup_runtime.start_jax()


def test_it_is_said_where_a_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    lines = setup_runtime.describe("cpu", [], tmp_path)
    assert lines[0] == f"Local checkout {ROOT}, nothing to install"
    devices = jax.devices()
    assert lines[1].endswith(f"on cpu: {len(devices)} x {devices[0].device_kind}")
    assert lines[2:] == [f"Results go to {tmp_path}"]
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    place, *_, last = setup_runtime.describe("tpu", ["gymnax"], tmp_path)
    assert place == f"Colab checkout {ROOT}"
    assert last.startswith("jaxgen has not been tested on a TPU yet")


def test_a_prepared_runtime(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(setup_runtime.RESULTS_VARIABLE, str(tmp_path))
    runtime = setup_runtime.prepare("name")
    assert runtime.root == ROOT and sys.path[:2] == [str(ROOT), str(ROOT / "experiments")]
    assert runtime.results == tmp_path / "name" and runtime.results.is_dir()
    assert bool(runtime.no_games) == ("starpilot" in unavailable())
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_old_python_is_refused_before_anything_else(monkeypatch, pip):
    monkeypatch.setattr(sys, "version_info", (3, 10, 14))
    with pytest.raises(RuntimeError, match="jaxgen needs Python 3.11 or newer"):
        setup_runtime.prepare("name")
    assert pip == []


# They run


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """Runs a notebook in a kernel of its own, in its folder; gives the notebook with outputs."""
    settings = {name: str(tmp_path / name) for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR",
                                                        "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    # The kernel is to make its own settings; compiled programs are kept between runs.
    ours = ("XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL", "MPLBACKEND", "COLAB_RELEASE_TAG")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env[setup_runtime.RESULTS_VARIABLE] = str(tmp_path / "results")

    def run(name, beginning=""):
        notebook, before = read(name), sorted(FOLDER.glob("*"))
        if beginning:
            notebook.cells.insert(0, nbformat.v4.new_code_cell(beginning))
        deadline = time.monotonic() + SECONDS
        client = NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}},
            timeout_func=lambda cell: max(1, int(deadline - time.monotonic())),
        )
        client.execute(env=env)
        ignored = FOLDER / "__pycache__"
        assert [path for path in sorted(FOLDER.glob("*")) if path != ignored] == [
            path for path in before if path != ignored
        ]
        return notebook

    return run


def outputs(notebook, kind):
    """What cells show of a MIME type."""
    return [
        output.data[kind]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind in output.get("data", ())
    ]


def printed(notebook):
    """What cells print, errors apart."""
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, execute):
    notebook = execute(name)
    pictures = [Image.open(io.BytesIO(base64.b64decode(data)))
                for data in outputs(notebook, "image/png")]  # fmt: skip
    assert len(pictures) >= PICTURES[name]
    for picture in pictures:
        # Something is drawn: pixels are not all alike.
        assert min(picture.size) > 200
        assert np.ptp(np.asarray(picture.convert("L"))) > 0
    films = [Image.open(io.BytesIO(base64.b64decode(data)))
             for data in outputs(notebook, "image/gif")]  # fmt: skip
    assert [film.n_frames > 10 for film in films] == [True] * FILMS.get(name, 0)  # pyright: ignore
    said = printed(notebook)
    assert "nothing to install" in said
    # Of Python: the summary has a warning of its own, about literal scores.
    assert not re.search(r"\w+(Warning|Error)\b", said)


@pytest.mark.slow
def test_without_procgen_the_cells_of_starpilot_do_nothing(execute):
    notebook = execute("04_starpilot", 'import sys\nsys.modules["procgen"] = None')
    assert "Starpilot cannot be played here: " in printed(notebook)
    assert "The cells below are skipped." in printed(notebook)
    for cell in notebook.cells[4:]:
        assert cell.get("outputs", []) == [], cell.id

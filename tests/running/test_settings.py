"""A study under settings of a user's own: not a byte of what it leaves is another.

Options of JAX, one by one and in one process, are in `tests/system/test_options.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_runs import MATRIX, assert_same_results, files_of

STUDY = (
    "--quick", "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "--seeds", "0",
    "--eval-episodes", "5", "--quiet", "--device", "cpu",
)  # fmt: skip
RC = "text.usetex: True\nfont.size: 24\nsavefig.bbox: tight\nfigure.autolayout: True\n"

SETTINGS: dict[str, dict[str, str | None]] = {
    "x64": {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict"},
    "random numbers": {
        "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_RANDOM_SEED_OFFSET": "5",
    },
    "precision": {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_OPTIMIZATION_LEVEL": "O1"},
    "faults": {
        "JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1", "JAX_DISABLE_JIT": "1",
        "JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_DEBUG_KEY_REUSE": "1",
    },
    "flags": {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=16 --xla_cpu_prefer_vector_width=128"
    },
    "threads": {"NPROC": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "python": {"PYTHONHASHSEED": "7", "PYTHONIOENCODING": "ascii"},
    "locale": {"LC_ALL": "C", "LANG": "tr_TR.ISO-8859-9", "PYTHONUTF8": "0"},
    "time zone": {"TZ": "Pacific/Kiritimati"},
    "home": {"HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null"},
    "matplotlib": {"MPLBACKEND": "nonsense"},
}  # fmt: skip
"""Variables by what they concern; the folder, the umask and a matplotlibrc differ in each."""


def study(root: Path, folder: Path, mask: int, **variables: str | None) -> None:
    """Run the study in a process of its own, in a folder of a user's own."""
    folder.mkdir()
    # The settings that the suite itself has made are not a user's.
    without = {"XLA_FLAGS", "JAX_PLATFORMS"} - variables.keys()
    environment = {name: value for name, value in os.environ.items() if name not in without}
    script = 'umask "$0"; exec "$@"'
    words = [sys.executable, str(MATRIX), *STUDY, "--devices", "2", "--out", str(root)]
    if "XLA_FLAGS" in variables:
        words.remove("--devices")
        words.remove("2")
    process = subprocess.run(
        ["sh", "-c", script, f"{mask:03o}", *words],
        cwd=folder, env=environment | variables, stdin=subprocess.DEVNULL,  # pyright: ignore
        capture_output=True, text=True, timeout=300,
    )
    assert process.returncode == 0, process.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    study(root / "out", root / "folder", 0o022)
    return root / "out"


def derived(root: Path) -> dict[str, bytes]:
    """Tables, figures and summaries, which are as deterministic."""
    return {
        name: data for name, data in files_of(root).items()
        if name.startswith(("results.csv", "plots/", "metrics/"))
    }


def assert_same_under(undisturbed: Path, tmp_path: Path, **variables: str | None) -> None:
    (tmp_path / "matplotlibrc").write_text(RC)
    variables = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")} | variables
    study(tmp_path / "out", tmp_path / "folder", 0o077, **variables)
    assert_same_results(tmp_path / "out", undisturbed)
    assert derived(tmp_path / "out") == derived(undisturbed)


@pytest.mark.slow
def test_no_byte_of_a_study_depends_on_settings_of_a_user(undisturbed, tmp_path):
    """All of them at once, but for flags of XLA, with which it would be compiled anew."""
    groups = (group for name, group in SETTINGS.items() if name != "flags")
    together = {name: value for group in groups for name, value in group.items()}
    assert_same_under(undisturbed, tmp_path, **together)


@pytest.mark.slow
@pytest.mark.parametrize("names", [
    ("flags",), ("faults",), ("x64", "random numbers", "precision"),
    ("threads", "python", "locale", "time zone", "home", "matplotlib"),
], ids=lambda names: names[-1])  # fmt: skip
def test_no_byte_of_a_study_depends_on_settings_of_one_kind(undisturbed, tmp_path, names):
    """A change of one kind must not hide what another would do."""
    together = {name: value for group in names for name, value in SETTINGS[group].items()}
    assert_same_under(undisturbed, tmp_path, **together)

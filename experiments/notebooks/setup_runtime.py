"""Make a notebook's kernel ready: packages, paths, the settings of JAX, a word about where it runs.

The first cell of a notebook finds the checkout, or clones it, and calls `prepare`. What is here
is used as it is: a jax is never replaced, and where nothing is missing nothing is installed.
"""

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
RESULTS_VARIABLE = "JAXGEN_NOTEBOOK_RESULTS"
"""Environment variable: where results go instead of results/notebooks of the checkout."""
KEPT = ("jax", "jaxlib", "numpy")
"""Never replaced: what fits the machine's driver cannot be told from here, and a kernel that has
loaded one numpy cannot take another."""
GAMES = (
    "procgen-mirror", "gym", "gym-notices", "gym3", "cffi", "cloudpickle", "filelock", "glcontext",
    "glfw", "imageio", "imageio-ffmpeg", "moderngl", "pillow", "pycparser",
)  # fmt: skip
"""procgen with all that it needs but numpy, which it declares too old."""


class Runtime(NamedTuple):
    """The place in which a notebook runs."""

    root: Path
    """The checkout."""
    results: Path
    """A folder for what this notebook writes; it exists."""
    backend: str
    """cpu, gpu or tpu."""
    no_games: str
    """Why procgen cannot be played, or empty."""


def prepare(name: str, games: bool = False, extras: Iterable[str] = ()) -> Runtime:
    """Install what is missing, start JAX as every command of jaxgen does, and print what was found.

    Args:
      name: of the notebook; its results go to a folder of this name.
      games: procgen is wanted as well; where it cannot be had, ``no_games`` says so.
      extras: optional dependencies of jaxgen that the notebook needs, e.g. tune.

    Raises:
      RuntimeError: this kernel cannot run jaxgen; says what to do.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  a kernel is not chosen by the package's metadata
        raise RuntimeError("jaxgen needs Python 3.11 or newer: choose another kernel")
    installed = install_missing(games, extras)
    # Scripts under experiments are imported by their names.
    sys.path[:0] = [str(ROOT), str(ROOT / "experiments")]
    backend = start_jax()
    import envs_jax

    no_games = envs_jax.unavailable().get("starpilot", "")
    results = Path(os.environ.get(RESULTS_VARIABLE, ROOT / "results" / "notebooks")) / name
    results.mkdir(parents=True, exist_ok=True)
    print("\n".join(describe(backend, installed, results)))
    return Runtime(ROOT, results, backend, no_games)


# What is missing


def install_missing(games: bool, extras: Iterable[str] = ()) -> list[str]:
    """Install what jaxgen lacks here, and procgen if it is wanted; returns what was given to pip.

    Raises:
      RuntimeError: see `missing_packages`; or pip failed, but for procgen, without which it goes
        on.
    """
    required, pins = read_requirements(extras), read_pins()
    versions = find_versions([requirement.name for requirement in required])
    wanted = missing_packages(required, versions, pins, gpu=shutil.which("nvidia-smi") is not None)
    if wanted:
        run_pip(wanted)
    game_packages = missing_games(find_versions(GAMES), pins) if games else []
    if game_packages:
        try:
            run_pip(["--no-deps", *game_packages])
        except RuntimeError as error:
            print(error)
            game_packages = []
    return wanted + game_packages


def missing_packages(
    required: Iterable[Requirement], versions: Mapping[str, str], pins: Mapping[str, str], gpu: bool
) -> list[str]:
    """Arguments of pip; empty: all is here.

    What stays is named with its version, so that pip's resolver cannot replace it. With a jax of
    the machine's own, other packages are those that go with it; without one, all are as locked.

    Args:
      required: the packages that jaxgen needs.
      versions: those of the installed packages, by name.
      pins: versions by name in the lock file.
      gpu: there is a GPU, whose jax is wanted if there is none.

    Raises:
      RuntimeError: one of `KEPT` is here in a version that jaxgen does not work with.
    """
    required = list(required)
    fits = {each.name: each.specifier.contains(versions.get(each.name, ""), prereleases=True)
            for each in required if each.name in versions}  # fmt: skip
    for each in required:
        if each.name in KEPT and not fits.get(each.name, True):
            raise RuntimeError(
                f"{each.name} {versions[each.name]} is installed, jaxgen needs {each.name}"
                f"{each.specifier}, and a notebook does not replace it: choose another kernel, or "
                f"run %pip install \"{each}\" in a cell of its own and restart the kernel"
            )
    wanted = [each for each in required if not fits.get(each.name)]
    if not wanted:
        return []
    stays = [f"{name}=={versions[name]}" for name, fit in fits.items() if fit]
    if "jax" in versions:
        return [*map(str, wanted), *stays]
    extras = {"jax": "[cuda12]"} if gpu else {}
    return [f"{each.name}{extras.get(each.name, '')}=={pins[each.name]}" for each in wanted] + stays


def missing_games(versions: Mapping[str, str], pins: Mapping[str, str]) -> list[str]:
    """Packages that procgen lacks, as locked; none where there is no procgen for this machine."""
    if "procgen-mirror" not in pins:
        return []
    return [f"{name}=={pins[name]}" for name in GAMES if name in pins and name not in versions]


def find_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_requirements(extras: Iterable[str] = ()) -> list[Requirement]:
    """The packages that jaxgen needs, with those of some extras, from pyproject.toml."""
    import tomllib  # Python 3.11 and later, which is checked first

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [Requirement(line) for line in lines]


def read_pins() -> dict[str, str]:
    """Versions by name in the lock file, of what is for this machine."""
    lines = map(Requirement, (ROOT / "requirements.lock").read_text().splitlines())
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in lines
        if each.marker is None or each.marker.evaluate()
    }


def run_pip(arguments: list[str]) -> None:
    """Install into this kernel's Python; RuntimeError with pip's last words if that fails."""
    command = ["-m", "pip", "install", "-q", *arguments]
    print("python", *command, flush=True)
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip failed: {' '.join(done.stderr.strip().splitlines()[-2:])}")
    importlib.invalidate_caches()


# Where it runs


def start_jax() -> str:
    """Settle what must stand before JAX starts, start it, and return its backend.

    Raises:
      RuntimeError: JAX has started without the settings, or would compute wrong numbers here.
    """
    from jaxgen.system import platform

    try:
        platform.configure()
        return platform.confirm_backend()
    except RuntimeError as error:
        raise RuntimeError(f"{error}: restart the kernel and run this cell first") from None
    except ValueError as error:
        raise RuntimeError(remedy(str(error), read_pins())) from None


def remedy(fault: str, pins: Mapping[str, str]) -> str:
    """The remedy in a notebook for a fault that jaxgen has found."""
    if not fault.startswith("jaxlib"):
        return fault
    packages = " ".join(f"{name}=={pins[name]}" for name in ("jax", "jaxlib", "flax"))
    return (
        f"{fault.partition(';')[0]}. Choose a runtime with a GPU, or run this in a cell of its "
        f"own, restart the kernel and begin again:\n\n    %pip install {packages}\n"
    )


def describe(backend: str, installed: list[str], results: Path) -> list[str]:
    """Lines that say where the notebook runs; JAX has started."""
    import jax

    place = "Colab" if "COLAB_RELEASE_TAG" in os.environ else "Local"
    kinds = sorted({device.device_kind for device in jax.devices()})
    lines = [
        f"{place} checkout {ROOT}" + ("" if installed else ", nothing to install"),
        f"JAX {jax.__version__} on {backend}: {len(jax.devices())} x {', '.join(kinds)}",
        f"Results go to {results}",
    ]
    if backend == "tpu":
        lines.append("jaxgen has not been tested on a TPU yet: a GPU or a CPU is the safe choice")
    return lines

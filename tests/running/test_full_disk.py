"""A disk that fills up: an exit code of its own, and nothing that was computed is lost."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from jaxgen.running import command
from jaxgen.system import checkpoint, faults
from small_runs import assert_same_results, identities, run_matrix, start_matrix

QUICK = (
    "--quick", "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "--seeds", "0",
    "--eval-episodes", "5", "--no-plots", "--checkpoint-seconds", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "out"
    found = run_matrix(*QUICK, "--out", str(root))
    assert found.returncode == 0, found.stderr
    return root


LATE = ("result.written", "derived.before:5")


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["checkpoint.arrays:3", *LATE]
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(undisturbed, tmp_path, point):
    root = tmp_path / "out"
    found = run_matrix(*QUICK, "--out", str(root), **{faults.FULL_VARIABLE: point})
    assert found.returncode == command.DISK_FULL, found.stdout + found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith("matrix.py: the disk is full ")
    assert line.endswith("the same command goes on from the last checkpoint")
    kept, finished = checkpoint.saved_in(root / "checkpoints"), identities(root)
    assert kept or point == "derived.before:5"
    for path in kept:
        checkpoint.read_meta(path)
    found = run_matrix(*QUICK, "--out", str(root))
    assert found.returncode == 0, found.stderr
    assert ("going on from iteration" in found.stdout) == bool(kept)
    assert_same_results(root, undisturbed)
    if not kept:
        assert identities(root).items() >= finished.items()


def test_a_full_disk_of_a_worker_ends_its_launcher_in_the_same_way(tmp_path):
    root, point = tmp_path / "out", {faults.FULL_VARIABLE: "checkpoint.arrays:1"}
    found = run_matrix(*QUICK, "--isolated", "--out", str(root), **point)
    assert found.returncode == command.DISK_FULL, found.stdout + found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith("matrix.py: the disk is full ([Errno 28] No space left on device)")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount")
    words = [mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(undisturbed, small_disk):
    """Filled up by somebody else as soon as there is a checkpoint."""
    root, filler = small_disk / "out", small_disk / "filler"
    with start_matrix(*QUICK, "--out", str(root)) as process:
        until = time.monotonic() + 240
        while not checkpoint.saved_in(root / "checkpoints") and time.monotonic() < until:
            time.sleep(0.005)
        fill(filler)
        out, err = process.communicate(timeout=240)
    assert process.returncode == command.DISK_FULL, out + err
    assert "the disk is full" in err
    filler.unlink()
    found = run_matrix(*QUICK, "--out", str(root))
    assert found.returncode == 0, found.stderr
    assert_same_results(root, undisturbed)


def fill(path: Path) -> None:
    """Take all the space that there is."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return

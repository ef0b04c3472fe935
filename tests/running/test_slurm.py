"""Workers as an array of jobs of a real SLURM on this machine: python -m pytest -m slurm, as root.

`slurm/start.sh` installs SLURM from Debian's packages where it is missing.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from jaxgen.running.workers.claims import RELEASED, RUNNING, Claims
from small_runs import assert_same_results, run_matrix, start_matrix

pytestmark = pytest.mark.slurm

SCRIPTS = Path(__file__).parent / "slurm"
STUDY = (
    "--quick", "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "dr",
    "--num-seeds", "4", "--eval-episodes", "5", "--no-plots", "--checkpoint-seconds", "0",
)  # fmt: skip
ON_SLURM = (
    *STUDY, "--launcher", "slurm", "--workers", "2", "--stale-seconds", "5",
    "--submit", "timeout_min=10", "cpus_per_task=1", "mem_gb=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A SLURM of one node; gives what points its commands at it."""
    state = tmp_path_factory.mktemp("slurm")
    words = [str(SCRIPTS / "start.sh"), str(state)]
    started = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert started.returncode == 0, started.stderr
    yield {"SLURM_CONF": str(state / "slurm.conf")}
    subprocess.run([str(SCRIPTS / "stop.sh"), str(state)], check=True, timeout=120)


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    root = tmp_path_factory.mktemp("inline") / "out"
    found = run_matrix(*STUDY, "--out", str(root))
    assert found.returncode == 0, found.stderr
    return root


def test_the_jobs_of_an_array_finish_a_study(slurm, inline, tmp_path):
    root = tmp_path / "out"
    found = run_matrix(*ON_SLURM, "--out", str(root), **slurm)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 of 2 units done" in found.stdout
    assert_same_results(root, inline)


def test_what_a_cancelled_job_leaves_is_done_by_the_other(slurm, inline, tmp_path):
    root = tmp_path / "out"
    with start_matrix(*ON_SLURM, "--out", str(root), **slurm) as process:
        wait_for_claims(root, 2)
        cancel(slurm, every=False)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert_same_results(root, inline)


def test_what_cancelled_jobs_leave_is_finished_by_the_same_command(slurm, inline, tmp_path):
    root = tmp_path / "out"
    with start_matrix(*ON_SLURM, "--out", str(root), **slurm) as process:
        wait_for_claims(root, 2)
        cancel(slurm, every=True)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert "no worker is left" in err
    found = run_matrix(*ON_SLURM, "--out", str(root), **slurm)
    assert found.returncode == 0, found.stdout + found.stderr
    assert_same_results(root, inline)


def test_ctrl_c_leaves_no_job_and_each_gives_back_what_it_held(slurm, tmp_path):
    """They are told to stop, not killed; a third one waits for a processor and is taken back."""
    root = tmp_path / "out"
    words = (*ON_SLURM, "--num-seeds", "6", "--workers", "3", "--out", str(root))
    with start_matrix(*words, **slurm) as process:
        wait_for_claims(root, 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert jobs_of(slurm) == []
    attempts = Claims(root / "cluster" / "claims", "test", 1.0).attempts().values()
    assert {attempt.state for attempt in attempts} == {RELEASED}


def jobs_of(slurm: dict[str, str], *which: str) -> list[str]:
    listed = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i", *which],
        capture_output=True, text=True, check=True, env=os.environ | slurm,
    )
    return sorted(listed.stdout.split())


def wait_for_claims(root: Path, number: int) -> None:
    """Wait until so many jobs are at work."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        folder = root / "cluster" / "claims"
        found = Claims(folder, "test", 1.0).attempts().values() if folder.is_dir() else ()
        if sum(attempt.state == RUNNING for attempt in found) >= number:
            return
        time.sleep(0.2)
    raise AssertionError(f"fewer than {number} workers took something")


def cancel(slurm: dict[str, str], every: bool) -> None:
    """Cancel all jobs, or the first."""
    jobs = jobs_of(slurm, "--states=running")
    assert len(jobs) == 2
    subprocess.run(["scancel", *(jobs if every else jobs[:1])], check=True, env=os.environ | slurm)

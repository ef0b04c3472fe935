"""Do to a results folder what happens to folders, at random, and see that nothing is lost or wrong.

One small study is started, stopped, killed at any moment, given full disks, and between that its
files are damaged, deleted, copied, sorted and reported. Whatever was done, every command ends with
one of its exit codes and no traceback, and at the end the study is that of an undisturbed run:
every result byte by byte, and what is derived from them rebuilt.

    python tests/chaos.py --minutes 30

The exit code is 1 if something was lost or wrong; the folder stays for a look at it.
"""

import argparse
import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jaxgen.results.table import CSV_COLUMNS
from jaxgen.running.command import BAD_INPUT, DISK_FULL, INTERRUPTED
from jaxgen.study.presets import preset
from jaxgen.system import faults
from small_runs import results_of

ROOT = Path(__file__).resolve().parents[1]
NUM_ITERATIONS = 4
COMMAND = (
    "--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "gar", "--seeds", "0", "1",
    "--total-steps", str(NUM_ITERATIONS * preset("ppo", "cartpole").steps_per_iteration),
    "--eval-episodes", "10", "--checkpoint-seconds", "0", "--no-plots", "--quiet",
)  # fmt: skip
POINTS = [point for point in faults.WRITE_POINTS if not point.startswith("log.")]
"""Those of the matrix, which keeps no log."""
DERIVED = ("results.csv", "best_models/ppo_cartpole_best_scores.json")
EXPECTED = {0, BAD_INPUT, DISK_FULL, INTERRUPTED, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}


class Wrong(Exception):
    """Something was lost, or is another than it was."""


class Chaos:
    """A folder, and what is done to it."""

    def __init__(self, root: Path, undisturbed: Path, generator: random.Random):
        self.root, self.undisturbed, self.random = root, undisturbed, generator
        self.outside = root.parent / "outside"
        self.outside.mkdir(exist_ok=True)
        self.counts: Counter[str] = Counter()

    def step(self) -> str:
        """Do one thing; returns its name."""
        actions: Sequence[Callable[[], None]] = (
            self.train, self.kill, self.interrupt, self.kill_while_writing, self.fill_the_disk,
            self.damage, self.damage, self.delete, self.copy_a_run, self.copy_a_seed,
            self.swap_seeds, self.leave_a_table, self.sort_the_table, self.report, self.analyze,
            self.status, self.lose_the_marker,
        )  # fmt: skip
        action = self.random.choice(actions)
        action()
        self.counts[action.__name__] += 1
        return action.__name__

    # Commands

    def run(self, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; Wrong: it ended as no command should."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "experiments" / script), *words],
            env=os.environ | variables, text=True, capture_output=True, timeout=300,
        )  # fmt: skip
        check(done.returncode, done.stdout + done.stderr, f"{script} {' '.join(words)}")
        return done

    def train(self, **variables: str) -> None:
        self.run("matrix.py", *COMMAND, "--out", str(self.root), **variables)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Start the study and send a signal after up to ten seconds."""
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "experiments" / "matrix.py"), *COMMAND,
             "--out", str(self.root)],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=self.random.uniform(0.1, 10))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            out, err = process.communicate(timeout=300)
        # Before the study listens, and when it is done, an interrupt is Python's own: of an import,
        # it may be any error.
        if number != signal.SIGINT or "stopping" in err:
            check(process.returncode, out + err, f"a study with signal {number}")

    def interrupt(self) -> None:
        self.kill(self.random.choice((signal.SIGINT, signal.SIGTERM)))

    def kill_while_writing(self) -> None:
        self.train(**{faults.VARIABLE: self.passage()})

    def fill_the_disk(self) -> None:
        self.train(**{faults.FULL_VARIABLE: self.passage()})

    def passage(self) -> str:
        return f"{self.random.choice(POINTS)}:{self.random.randint(1, 4)}"

    def report(self) -> None:
        if (self.root / "store.json").exists():
            self.run("report.py", str(self.root))

    def analyze(self) -> None:
        if (self.root / "store.json").exists():
            self.run("matrix.py", *COMMAND, "--analyze", "--out", str(self.root))

    def status(self) -> None:
        if (self.root / "store.json").exists():
            self.run("matrix.py", "--status", str(self.root))

    # What people do to files

    def files(self) -> list[Path]:
        """Every file but the two by which processes know the folder."""
        apart = {"store.json", ".lock"}
        return sorted(
            path for path in self.root.rglob("*") if path.is_file() and path.name not in apart
        )

    def damage(self) -> None:
        """Cut a file off, or flip a bit of it."""
        if files := self.files():
            path = self.random.choice(files)
            data = bytearray(path.read_bytes())
            if data and self.random.random() < 0.5:
                data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
                path.write_bytes(data)
            else:
                path.write_bytes(data[: len(data) // 2])

    def delete(self) -> None:
        """Remove a file, or a whole folder."""
        if files := self.files():
            path = self.random.choice(files)
            path = self.random.choice([path, path, path.parent])
            if path.is_dir() and path != self.root:
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()

    def seeds(self) -> list[Path]:
        return sorted(self.root.glob("runs/*-????????/seed_????"))

    def copy_a_run(self) -> None:
        if seeds := self.seeds():
            run = self.random.choice(seeds).parent
            shutil.copytree(run, f"{run}{self.random.choice(('.bak', ' (copy)', '-old'))}",
                            dirs_exist_ok=True)  # fmt: skip

    def copy_a_seed(self) -> None:
        """Under another name, or in the place of one that is not there."""
        if seeds := self.seeds():
            seed = self.random.choice(seeds)
            name = self.random.choice(("seed_0000.bak", "seed_00001", "seed_0001", "seed_0002"))
            if not (seed.parent / name).exists():
                shutil.copytree(seed, seed.parent / name)

    def swap_seeds(self) -> None:
        seeds = self.seeds()
        if len(seeds) > 1:
            first, second = self.random.sample(seeds, 2)
            first.rename(self.root / ".swapped")
            second.rename(first)
            (self.root / ".swapped").rename(second)

    def leave_a_table(self) -> None:
        """Rows of the folder, compressed to be mailed, which grow old there."""
        table = self.root / "results.csv"
        if table.exists():
            (self.root / "results.csv.gz").write_bytes(gzip.compress(table.read_bytes()))

    def sort_the_table(self) -> None:
        """Report a table whose rows were shuffled; the page is that of the table as it was."""
        table = self.undisturbed / "results.csv"
        header, *lines = table.read_text().splitlines()
        assert header == ",".join(CSV_COLUMNS)
        self.random.shuffle(lines)
        ours = self.outside / "shuffled.csv"
        ours.write_text("\r\n".join([header, *lines]), encoding="utf-8-sig")
        self.run("report.py", str(ours), "-o", str(self.outside / "shuffled"))
        expected = self.outside / "expected"
        if not expected.exists():
            self.run("report.py", str(table), "-o", str(expected))
        pages = [(folder / "report.md").read_text() for folder in (ours.with_suffix(""), expected)]
        if pages[0] != pages[1]:
            raise Wrong("the report of a shuffled table is another one")

    def lose_the_marker(self) -> None:
        """Damage store.json: all is refused, and the copy that the message asks for mends it."""
        marker = self.root / "store.json"
        if not marker.exists():
            return
        marker.write_text("{")
        done = self.run("matrix.py", *COMMAND, "--out", str(self.root))
        if done.returncode != BAD_INPUT or str(marker) not in done.stderr:
            raise Wrong(f"a folder without a whole store.json was used: {done.stdout}")
        shutil.copy(self.undisturbed / "store.json", marker)

    # The end

    def conclude(self) -> None:
        """Go on with the study to its end, and compare; Wrong: it is another one."""
        words = ("matrix.py", *COMMAND, "--out", str(self.root))
        done = self.run(*words)
        if done.returncode != 0:
            raise Wrong(f"the study does not go on: {done.stderr}")
        planned = results_of(self.undisturbed)
        ours = results_of(self.root)
        if different := [name for name, data in planned.items() if ours.get(name) != data]:
            raise Wrong(f"these results are others: {different}")
        for name in DERIVED:
            if (self.root / name).read_bytes() != (self.undisturbed / name).read_bytes():
                raise Wrong(f"{name} is another one")


def check(code: int, text: str, what: str) -> None:
    """Raise Wrong for an exit code that is none of a command's, or a traceback."""
    if code not in EXPECTED or "Traceback" in text:
        raise Wrong(f"{what} ended with {code}:\n{text[-3000:]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("chaos.py", description=__doc__, formatter_class=raw)
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M",
                        help="how long (default %(default)g)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="which accidents happen (default %(default)s)")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    chaos = Chaos(folder / "disturbed", folder / "undisturbed", random.Random(args.seed))
    until = time.monotonic() + 60 * args.minutes
    chaos.run("matrix.py", *COMMAND, "--out", str(chaos.undisturbed))
    try:
        while time.monotonic() < until:
            for _ in range(10):
                print(chaos.step(), flush=True)
            chaos.conclude()
            print("whole again", flush=True)
    except Wrong as wrong:
        print(f"after {dict(chaos.counts)}: {wrong}\nlook at {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print(f"nothing was lost: {dict(chaos.counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Standard streams: a reader that has gone, a full disk, a poor encoding, no stream at all."""

import io
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from experiments import matrix, report
from jaxgen import __main__ as jaxgen_main
from jaxgen.running.watching.console import PLAIN_SECONDS, Console
from jaxgen.system.streams import lasting_streams

ROOT = Path(__file__).parents[2]


@contextmanager
def unread(monkeypatch):
    """Both streams are pipes that nobody reads; closing them is the interpreter's last flush."""
    with monkeypatch.context() as patched, ExitStack() as streams:
        for name in ("stdout", "stderr"):
            reader, writer = os.pipe()
            os.close(reader)
            patched.setattr(sys, name, streams.enter_context(os.fdopen(writer, "w")))
        yield


def test_lines_that_nobody_reads_are_dropped(monkeypatch):
    with unread(monkeypatch), lasting_streams():
        for _ in range(10_000):
            print("a line", flush=True)
            print("a line", file=sys.stderr)


def test_progress_that_nobody_reads_stops_no_training(monkeypatch):
    with unread(monkeypatch), lasting_streams():
        console = Console()
        console._last -= 2 * PLAIN_SECONDS
        console.progress("ppo cartpole", 1.0, 2.0, 1.0)
        console.view(["a headline"])
        console.note("a note")


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (matrix.main, ["--list", "--suite", "rigorous"]),
        (matrix.main, ["--status", "nowhere"]),
        (matrix.main, ["--help"]),
        (matrix.main, ["--algo", "nothing"]),
        (report.main, ["--help"]),
        (report.main, ["nowhere"]),
        (jaxgen_main.main, ["--help"]),
        (jaxgen_main.main, ["levels", "nowhere"]),
    ],
)
def test_every_door_is_quiet_where_its_reader_has_gone(monkeypatch, main, words):
    with unread(monkeypatch):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    assert code in (0, 2)


def test_a_log_on_a_full_disk_stops_nothing(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with lasting_streams():
            for _ in range(10_000):
                print("a line", flush=True)
        monkeypatch.undo()


def test_letters_that_an_encoding_lacks_are_spelt_out(monkeypatch):
    stream = io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_streams():
        print("results/Zürich", flush=True)
    assert raw.getvalue() == b"results/Z\\xfcrich\n"


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_stream_that_is_closed_stops_nothing(monkeypatch, stream):
    """None is what the interpreter makes of a stream that is closed from the start."""
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_streams():
        print("a line", flush=True)
        Console().note("a note")
    assert sys.stdout is stream


def test_no_file_of_results_gets_the_number_of_a_closed_stream(tmp_path):
    """What XLA and signal handlers print goes to the numbers 1 and 2."""
    code = (
        "import os, sys\n"
        "from jaxgen.system.streams import lasting_streams\n"
        "with lasting_streams(), open(sys.argv[1], 'w') as file:\n"
        "    print('a line'); os.write(2, b'a signal'); print(file.fileno(), file=file)\n"
    )
    script = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
    words = ["sh", "-c", script, sys.executable, code, str(tmp_path / "file")]
    assert subprocess.run(words, cwd=ROOT).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_the_streams_come_back(capsys):
    before = sys.stdout, sys.stderr
    with pytest.raises(LookupError), lasting_streams():
        print("a line")
        raise LookupError
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "a line\n"

"""A log that only grows: what a crash leaves of it, and what it refuses."""

import pytest

from jaxgen.results import log
from jaxgen.system import faults
from jaxgen.system.files import DamagedFile

RECORDS = [{"kind": "asked", "trials": [{"a": "1"}]}, {"kind": "told", "value": 0.5}, {"end": True}]


@pytest.fixture
def path(tmp_path):
    for record in RECORDS:
        log.append(tmp_path / "log.jsonl", record)
    return tmp_path / "log.jsonl"


def test_records_come_back_in_order(path, tmp_path):
    assert log.read(path) == RECORDS
    assert log.read(tmp_path / "none.jsonl") == []


def test_a_torn_line_is_left_out_and_then_dropped(path):
    """Whatever part of the last line a crash has left."""
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert log.read(path) == RECORDS[:2]
        log.append(path, RECORDS[2])
        assert path.read_bytes() == whole


def test_a_full_disk_leaves_what_was_there(path, monkeypatch):
    monkeypatch.setenv(faults.FULL_VARIABLE, "log.torn")
    monkeypatch.setattr(faults, "_passages", faults.Counter())
    with pytest.raises(OSError):
        log.append(path, {"more": 1})
    monkeypatch.delenv(faults.FULL_VARIABLE)
    assert log.read(path) == RECORDS


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace(b"asked", b"acted"), *lines[1:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [b"{", *lines[1:]],
        lambda lines: [b"[1]", *lines[1:]],
    ],
)
def test_a_line_that_was_altered_moved_or_lost_is_found(path, change):
    path.write_bytes(b"\n".join(change(path.read_bytes().split(b"\n"))))
    with pytest.raises(DamagedFile, match="line 1"):
        log.read(path)

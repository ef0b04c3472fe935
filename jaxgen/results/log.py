"""A log that only grows: a numbered record a line with its checksum, whole after any crash."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.system.faults import write_point
from jaxgen.system.files import DamagedFile, canonical_json


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record, on the disk when this returns; a line that a crash has torn is dropped first.

    Args:
      path: the file; its folder exists.
      record: JSON-ready.
    """
    write_point("log.before")
    with open(path, "r+b" if path.exists() else "x+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(whole)
        line = _line(content[:whole].count(b"\n") + 1, record)
        half = len(line) // 2
        file.write(line[:half])
        file.flush()
        write_point("log.torn")
        file.write(line[half:])
        file.flush()
        os.fsync(file.fileno())
    write_point("log.written")


def read(path: Path) -> list[dict[str, Any]]:
    """All records; none where there is no file. What a crash has torn at the end is left out.

    Raises:
      DamagedFile: any other line is not what was written.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_record(line, path, number) for number, line in enumerate(lines, 1)]


def _line(number: int, record: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(f"{number}{canonical_json(record)}".encode()).hexdigest()
    text = json.dumps({"record": json.loads(canonical_json(record)), "sha256": digest})
    return text.encode() + b"\n"


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)["record"]
        intact = _line(number, record) == line + b"\n"
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(path, f"line {number} is no record: {error}") from error
    if not intact:
        raise DamagedFile(path, f"line {number} does not match its sha256")
    return record

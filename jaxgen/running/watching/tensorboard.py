"""A writer for TensorBoard."""

import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.running.watching.packages import import_package
from jaxgen.running.watching.rows import Row, Run
from jaxgen.study.spec import RunSpec


class TensorBoard:
    """Event files ``<run name>/seed_0000/events.out.tfevents.*`` below a folder.

    Of tensorboardX only the messages and checksums are used. Its writers put events into a queue
    that a thread empties; on a full disk the thread dies, and what fills the queue waits forever.

    Raises:
      ValueError: tensorboardX is missing.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path):
        self._folder = folder
        self._messages = import_package("tensorboardX.proto.event_pb2", self.name)
        self._checksum = import_package("tensorboardX.record_writer", self.name).masked_crc32c
        self._files: dict[Run, Path] = {}

    def has(self, run: Run) -> bool:
        """Whether the scores are there, which have a file of their own and come last."""
        return any(self._run_folder(run).glob("*.tfevents.*.scores"))

    def start(self, run: Run, spec: RunSpec) -> None:
        """Remove earlier event files, and begin a new one."""
        folder = self._run_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.tfevents.*"):
            file.unlink()
        # TensorBoard reads the files of a folder by name, so that the name begins with the time.
        self._files[run] = folder / f"events.out.tfevents.{int(time.time())}.jaxgen"
        self._begin(self._files[run])

    def write(self, run: Run, rows: Sequence[Row]) -> None:
        """Add an event for each row."""
        self._append(self._files[run], rows)

    def finish(self, run: Run, scores: Row) -> None:
        """Write the scores into a file of their own."""
        file = self._files.pop(run)
        self._begin(file.with_name(f"{file.name}.scores"), [scores])

    def close(self) -> None:
        """Nothing to do: no file is open between two calls."""

    def _run_folder(self, run: Run) -> Path:
        return self._folder / run.name / f"seed_{run.seed:04d}"

    def _begin(self, file: Path, rows: Sequence[Row] = ()) -> None:
        version = self._messages.Event(wall_time=time.time(), file_version="brain.Event:2")
        self._append(file, rows, self._record(version))

    def _append(self, file: Path, rows: Sequence[Row], begin: bytes = b"") -> None:
        now = time.time()
        records = [begin]
        for env_steps, values in rows:
            event = self._messages.Event(wall_time=now, step=env_steps)
            for name, value in values.items():
                event.summary.value.add(tag=name, simple_value=value)
            records.append(self._record(event))
        # Not kept open: a study may have more runs than a process may have files.
        with file.open("ab") as stream:
            stream.write(b"".join(records))

    def _record(self, event: Any) -> bytes:
        """A TFRecord: length, its checksum, the message, its checksum."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", self._checksum(part)) for part in (length, data))
        return length + next(checks) + data + next(checks)

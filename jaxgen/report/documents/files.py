"""The files of a report in a folder."""

from collections.abc import Iterable
from pathlib import Path

from jaxgen.system.errors import BadInput


def check_replaceable(folder: Path, files: Iterable[Path], is_report: bool) -> None:
    """Raise BadInput where a folder that is no report's holds a file of one of these names."""
    if is_report:
        return
    for path in files:
        if path.is_relative_to(folder) and path.exists():
            raise BadInput(
                f"{path} is in the way, and {folder} is no report's folder; name a new one with "
                "--out"
            )

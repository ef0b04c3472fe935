"""The report of lines: tables as markdown and as a page, with the rows that they are made from."""

import gzip
from collections.abc import Sequence
from pathlib import Path

from jaxgen.report.connectivity.answers import TITLE, answers
from jaxgen.report.connectivity.measures import TABLE, read_rows, table_of
from jaxgen.report.documents.document import to_markdown
from jaxgen.report.documents.files import check_replaceable
from jaxgen.report.documents.page import to_html
from jaxgen.system.errors import BadInput
from jaxgen.system.files import write_bytes

ROWS = f"{TABLE}.gz"


def is_source(path: Path) -> bool:
    """Whether a path is of lines: a folder of results or of a report, or a file of rows."""
    if path.is_dir():
        return (path / TABLE).is_file() or is_report(path)
    return path.is_file() and path.name.endswith((TABLE, ROWS))


def is_report(path: Path) -> bool:
    """Whether a folder is one that `write_report` has written."""
    return (path / ROWS).is_file()


def read_source(paths: Sequence[Path]) -> str:
    """Read the rows of several folders or files.

    Raises:
      BadInput: one of them is not of lines, or two have rows of the same line.
    """
    rows = []
    for path in paths:
        if not is_source(path):
            raise BadInput(f"{path} holds no lines, and others do; give them apart")
        file = path if path.is_file() else path / (ROWS if is_report(path) else TABLE)
        data = file.read_bytes()
        try:
            text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
        except (OSError, EOFError, ValueError) as error:
            raise BadInput(f"{file} is damaged: {error}") from error
        rows += read_rows(text)
    names = ("parent", "seed", "strategy", "point", "number", "path", "level")
    if len({tuple(row[name] for name in names) for row in rows}) < len(rows):
        raise BadInput("two of the folders have rows of the same lines; give each once")
    return table_of(rows)


def write_report(text: str, folder: str | Path, page: str | Path | None = None) -> list[Path]:
    """Write report.md, report.html and the rows.

    Args:
      text: rows, as `read_source` gives them.
      folder: where everything goes; created.
      page: another file for the markdown.

    Returns:
      The files that a reader opens first.

    Raises:
      BadInput: files are in the way that are no report's; nothing is written.
    """
    folder = Path(folder)
    document = answers(read_rows(text))
    markdown = folder / "report.md" if page is None else Path(page)
    files = {
        folder / ROWS: gzip.compress(text.encode(), mtime=0),
        folder / "report.html": to_html(document).encode(),
        markdown: to_markdown(document).encode(),
    }
    check_replaceable(folder, files, is_report(folder))
    if page is not None and markdown.exists() and not _is_page(markdown):
        raise BadInput(f"{markdown} is there and is no report; name another file with --page")
    for path, content in files.items():
        write_bytes(path, content)
    return [markdown, folder / "report.html"]


def _is_page(path: Path) -> bool:
    return path.read_bytes().split(b"\n", 1)[0] in (b"", f"# {TITLE}".encode())

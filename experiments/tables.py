"""Tables of the pages beside this file, which scripts write between two marks, and their rows."""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgen.results.read import read_records
from jaxgen.results.records import Record
from jaxgen.results.store import open_store
from jaxgen.system.errors import BadInput
from jaxgen.system.files import write_bytes


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    rows = [header, ("---",) * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(page: str, name: str, table: str) -> str:
    """The text of a page with another table between the marks of a name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file of comma-separated values; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows as such a file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def updated(page: str, tables: Mapping[str, str]) -> str:
    """The text of a page with other tables between the marks of their names."""
    for name, table in tables.items():
        page = with_table(page, name, table)
    return page


def keep_rows(
    path: Path, fields: Sequence[str], folders: Sequence[str],
    row_of: Callable[[Record], dict[str, str]], key: Callable[[dict[str, str]], tuple[str, ...]],
) -> None:
    """Put the rows of results folders among those of a file, in place of the same runs."""
    kept = {key(row): row for row in read_rows(path)}
    for folder in folders:
        records, damaged = read_records(open_store(folder, create=False))
        for line in damaged:
            print(f"left aside: {line}", file=sys.stderr)
        kept |= {key(row): row for row in map(row_of, records)}
    write_rows(path, fields, (kept[each] for each in sorted(kept)))


def png_of(figure: Any) -> bytes:
    """A figure as a PNG that says nothing of what drew it; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def run_page(
    name: str, doc: str | None, argv: Sequence[str] | None, keep: Callable[[Sequence[str]], None],
    write: Callable[[], str],
) -> int:
    """Run the command line of a page: keep the rows of results folders, then write the page.

    Args:
      name: of the script.
      doc: its help.
      argv: its words; None: those of the process.
      keep: puts the rows of folders among those that are kept.
      write: writes what follows from the rows, and returns the words to print.

    Returns:
      The exit code: 0, or 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", metavar="RESULTS", help="results folders")
    args = parser.parse_args(argv)
    try:
        if args.results:
            keep(args.results)
    except (BadInput, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    print(write())
    return 0

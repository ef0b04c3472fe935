"""The rows that a report is made from, and the files that it becomes.

A source is a results folder, a results.csv, or a compressed one (results.csv.gz). Either way the
report is made from the same rows, so that it can be rebuilt from the one file that it leaves.
"""

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.report.document import Picture, to_csv, to_html, to_latex, to_markdown
from jaxgen.report.generalisation.findings import findings_of
from jaxgen.report.generalisation.sections import sections
from jaxgen.report.generalisation.tables import cell_table
from jaxgen.results.read import read_records
from jaxgen.results.records import Record
from jaxgen.results.store import open_store
from jaxgen.results.table import csv_text, curves_text, read_csv, read_curves, rows
from jaxgen.system.errors import BadInput
from jaxgen.system.files import write_bytes

ROWS, CURVES, MAKING = "results.csv.gz", "curves.csv.gz", "making.json"


class Source(NamedTuple):
    """The rows of a report."""

    text: str
    """Records, as results.csv has them."""
    curves: str = ""
    """See `jaxgen.results.table.curves_text`; "" where there are none."""
    making: dict[str, Any] | None = None
    """See `making_of`; None: not known."""
    damaged: Sequence[str] = ()
    """Files that could not be read, in words."""


def read_source(path: str | Path) -> Source:
    """Read a results folder or the rows of one.

    Raises:
        ValueError: there is no such thing, or it is no results.csv.
        jaxgen.results.lock.StoreError: the folder is of something else.
    """
    path = Path(path)
    if is_report(path):
        path = path / ROWS
    if path.is_dir():
        records, damaged = read_records(open_store(path, create=False))
        making = making_of(records)
        return Source(csv_text(rows(records)), curves_text(records), making, damaged)
    if not path.is_file():
        raise BadInput(f"there is no {path}; give a results folder, a results.csv or .csv.gz")
    curves, making = path.with_name(CURVES), path.with_name(MAKING)
    return Source(
        _read_text(path, read_csv),
        _read_text(curves, read_curves) if curves.exists() else "",
        json.loads(_read_text(making, json.loads)) if making.exists() else None,
    )


def _read_text(path: Path, check: Callable[[str], Any]) -> str:
    """The text of a file that ``check`` can read."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        check(text)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    return text


def is_report(path: Path) -> bool:
    """The folder is one that `write_report` left."""
    return (path / ROWS).exists()


def making_of(records: Sequence[Record]) -> dict[str, Any]:
    """The commands, machines and programs that made the records.

    ``programs``: by name, how often it ran, and its runs and seconds in all. A program that ran
    once counts once, however many runs it trained.
    """
    ran: dict[str, Mapping[str, Any]] = {}
    trained: Counter[str] = Counter()
    platforms: dict[str, dict[str, Any]] = {}
    commands: dict[str, None] = {}
    for record in records:
        provenance = record.provenance
        if record.alias_of or not provenance.get("seconds"):
            continue
        key = json.dumps([provenance.get("program"), provenance["seconds"]], sort_keys=True)
        ran.setdefault(key, provenance)
        trained[key] += 1
        platform = dict(provenance.get("platform") or {})
        commands.setdefault(platform.pop("command", "not known"))
        if platform:
            platforms.setdefault(json.dumps(platform, sort_keys=True), platform)
    programs: dict[str, dict[str, Any]] = {}
    for key, provenance in ran.items():
        name = str(provenance.get("program"))
        total = programs.setdefault(name, {"times": 0, "runs": 0, "seconds": {}})
        total["times"] += 1
        total["runs"] += provenance.get("lanes", trained[key])
        for part, seconds in provenance["seconds"].items():
            total["seconds"][part] = total["seconds"].get(part, 0.0) + seconds
    return {
        "commands": list(commands),
        "platforms": list(platforms.values()),
        "programs": programs,
    }


def write_report(source: Source, folder: str | Path, page: str | Path | None = None) -> list[Path]:
    """Write report.md, report.html, figures, the table of all arms and the rows themselves.

    Args:
        source: the rows.
        folder: where everything goes; created.
        page: another file for the markdown, whose links lead to the same figures.

    Returns:
        The files that a reader opens first.
    """
    folder = Path(folder)
    findings = findings_of(read_csv(source.text, source.curves), source.making)
    document = sections(findings)
    blocks = [block for section in document for block in section.blocks]
    for block in blocks:
        if isinstance(block, Picture):
            write_bytes(folder / "figures" / f"{block.name}.png", block.png)
    write_bytes(folder / "report.html", to_html(document).encode())
    markdown = folder / "report.md" if page is None else Path(page)
    pictures = Path(os.path.relpath(folder / "figures", markdown.parent)).as_posix()
    write_bytes(markdown, to_markdown(document, pictures).encode())
    table = cell_table([*findings.cells, *findings.presets])
    write_bytes(folder / "arms.csv", to_csv(table).encode())
    write_bytes(folder / "arms.tex", to_latex(table).encode())
    making = None if source.making is None else json.dumps(source.making, indent=1) + "\n"
    for name, text in ((ROWS, source.text), (CURVES, source.curves), (MAKING, making)):
        if text:
            packed = name.endswith(".gz")
            content = gzip.compress(text.encode(), mtime=0) if packed else text.encode()
            write_bytes(folder / name, content)
        else:
            # Of an older report.
            (folder / name).unlink(missing_ok=True)
    return [markdown, folder / "report.html"]

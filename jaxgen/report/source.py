"""The rows that a report is made from, and the files that it becomes.

A source is a results folder, a results.csv, or a compressed one (results.csv.gz). Either way the
report is made from the same rows, so that it can be rebuilt from the one file that it leaves.
"""

import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.report.documents.document import Picture, to_markdown
from jaxgen.report.documents.files import check_replaceable
from jaxgen.report.documents.page import to_html
from jaxgen.report.generalisation.evidence import base_of_record
from jaxgen.report.generalisation.findings import findings_of
from jaxgen.report.generalisation.glossary import TIPS
from jaxgen.report.generalisation.paper import arms_csv, arms_latex
from jaxgen.report.generalisation.reference import relative_to
from jaxgen.report.generalisation.sections import TITLES, sections
from jaxgen.results.read import read_records
from jaxgen.results.records import Cell, Record, group_cells
from jaxgen.results.store import MARKER, open_store
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


def read_source(path: str | Path, reference: str | None = None) -> Source:
    """Read a results folder or the rows of one.

    Args:
        path: the folder, or a file of rows.
        reference: what counts as 1, see `jaxgen.report.generalisation.reference`; None: what did
            when the rows were made.

    Raises:
        ValueError: there is no such thing, it is no results.csv, or rows cannot be scored anew.
        jaxgen.results.lock.StoreError: the folder is of something else.
    """
    path = Path(path)
    if is_report(path):
        path = path / ROWS
    if path.is_dir():
        records, damaged = read_records(open_store(path, create=False))
        making = making_of(records)
        if reference:
            records, making = relative_to(reference, records), making | {"reference": reference}
        return Source(csv_text(rows(records)), curves_text(records), making, damaged)
    if reference:
        raise BadInput(f"{path} is no results folder, so its scores stay as they are; give the one")
    if not path.is_file():
        raise BadInput(f"there is no {path}; give a results folder, a results.csv or .csv.gz")
    curves, making = path.with_name(CURVES), path.with_name(MAKING)
    # What lies beside a table of another name is not of these rows.
    beside = path.name == ROWS
    learning = _read(curves, _checked_curves) if beside and curves.exists() else ""
    records = _read(path, lambda text: read_csv(text, learning))
    return Source(
        csv_text(rows(records)),
        curves_text(records) if learning else "",
        _read(making, json.loads) if beside and making.exists() else None,
    )


def _checked_curves(text: str) -> str:
    """The text of learning curves that can be read."""
    read_curves(text)
    return text


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    """Parse a file's text; BadInput names the file."""
    try:
        content = path.read_bytes()
        return parse((gzip.decompress(content) if path.suffix == ".gz" else content).decode())
    except UnicodeDecodeError:
        raise BadInput(f"{path} cannot be read: it is no UTF-8 text; save it as UTF-8") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None


def is_report(path: Path) -> bool:
    """The folder is one that `write_report` left, not a results folder where rows lie too."""
    return (path / ROWS).exists() and not (path / MARKER).exists()


def together(sources: Mapping[str, Source]) -> Source:
    """One source of several: ppo of the one that is called old is the algorithm ``ppo:old``.

    Raises:
        BadInput: a name that cannot stand in an algorithm's.
    """
    for name in sources:
        if not re.fullmatch(r"[\w.-]+", name):
            raise BadInput(f"the name {name!r} is not allowed; use letters, digits, ., - and _")
    records = [
        _named(record, name)
        for name, source in sources.items()
        for record in read_csv(source.text, source.curves)
    ]
    parts = [source.making or {} for source in sources.values()]
    programs = {
        f"{program}:{name}": total
        for name, part in zip(sources, parts, strict=True)
        for program, total in part.get("programs", {}).items()
    }
    platforms = {json.dumps(each): each for part in parts for each in part.get("platforms", ())}
    making = {
        "folders": list(sources),
        "commands": list(dict.fromkeys(c for part in parts for c in part.get("commands", ()))),
        "platforms": list(platforms.values()),
        "programs": programs,
    }
    curves = curves_text(records) if any(source.curves for source in sources.values()) else ""
    damaged = [line for source in sources.values() for line in source.damaged]
    return Source(csv_text(rows(records)), curves, making, damaged)


def _named(record: Record, folder: str) -> Record:
    """A record whose algorithm and run are named with a folder."""
    old, new = record.algorithm, f"{record.algorithm}:{folder}"

    def renamed(name: str | None) -> str | None:
        return name and new + name.removeprefix(old)

    run = record.result["run"] | {"algorithm": new}
    run |= {key: renamed(run[key]) for key in ("name", "experiment")}
    spec = {
        **record.spec,
        "algorithm": new, "alias_of": renamed(record.alias_of), "base": base_of_record(record),
    }  # fmt: skip
    return record._replace(spec=spec, result={**record.result, "run": run})


def making_of(records: Sequence[Record]) -> dict[str, Any]:
    """The commands, machines and programs that made the records.

    ``programs``: by name, how often it ran, and its runs and seconds in all. A program that ran
    once counts once, however many runs it trained. ``mixed``: the runs whose seeds come from
    several versions of the code, of jaxlib, or several kinds of device; missing where none do.
    """
    records = [record for record in records if not record.alias_of]
    ran: dict[str, Mapping[str, Any]] = {}
    trained: Counter[str] = Counter()
    platforms: dict[str, dict[str, Any]] = {}
    commands: dict[str, None] = {}
    for record in records:
        provenance = record.provenance
        if not provenance.get("seconds"):
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
    making = {
        "commands": list(commands),
        "platforms": list(platforms.values()),
        "programs": programs,
    }
    mixed = [cell.name for cell in group_cells(records) if _is_mixed(cell)]
    return making | ({"mixed": mixed} if mixed else {})


def _is_mixed(cell: Cell) -> bool:
    """Whether the seeds of a cell come from other code, another JAX or another kind of device."""
    origins = [
        {
            **(record.provenance.get("code") or {}),
            "jax": platform.get("versions", {}).get("jaxlib"), "backend": platform.get("backend"),
        }
        for record in cell.records
        if (platform := record.provenance.get("platform"))
    ]  # fmt: skip
    return any(
        len({origin[key] for origin in origins if origin.get(key) is not None}) > 1
        for key in {key for origin in origins for key in origin}
    )


def write_report(source: Source, folder: str | Path, page: str | Path | None = None) -> list[Path]:
    """Write report.md, report.html, figures, the table of all arms and the rows themselves.

    Args:
        source: the rows.
        folder: where everything goes; created.
        page: another file for the markdown, whose links lead to the same figures.

    Returns:
        The files that a reader opens first.

    Raises:
        ValueError: files are in the way that are no report's; nothing is written.
    """
    folder = Path(folder)
    findings = findings_of(read_csv(source.text, source.curves), source.making)
    document = sections(findings)
    markdown = folder / "report.md" if page is None else Path(page)
    pictures = Path(os.path.relpath(folder / "figures", markdown.parent)).as_posix()
    making = None if source.making is None else json.dumps(source.making, indent=1) + "\n"
    # The rows come first: they tell that the folder is a report's, however this ends.
    files = {
        folder / ROWS: gzip.compress(source.text.encode(), mtime=0),
        folder / CURVES: source.curves and gzip.compress(source.curves.encode(), mtime=0),
        folder / MAKING: making,
        **{
            folder / "figures" / f"{block.name}.png": block.png
            for section in document for block in section.blocks if isinstance(block, Picture)
        },
        folder / "report.html": to_html(document, TIPS),
        markdown: to_markdown(document, pictures),
        folder / "arms.csv": arms_csv(findings.cells),
        folder / "arms.tex": arms_latex(findings.cells),
    }  # fmt: skip
    check_replaceable(folder, files, is_report(folder))
    if page is not None:
        _check_page(markdown)
    for path, content in files.items():
        if content:
            write_bytes(path, content.encode() if isinstance(content, str) else content)
        else:
            # Of an older report.
            path.unlink(missing_ok=True)
    return [markdown, folder / "report.html"]


def _check_page(path: Path) -> None:
    """Raise BadInput for a page that is there and is no report's."""
    content = path.read_bytes() if path.exists() else b""
    title = content.split(b"\n", 1)[0].decode(errors="replace").removeprefix("# ")
    if content and title not in TITLES:
        raise BadInput(f"{path} is there and is no report; name another file with --page")

"""Documents of sections, paragraphs, tables and pictures, as text or markdown.

`jaxgen.report.documents.page` makes HTML of them.
"""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 100
"""Columns of a paragraph of text."""


class Table(NamedTuple):
    """A table of text, and the notes that must be read with it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()


class Picture(NamedTuple):
    """A figure."""

    name: str
    """Name of its file, without the suffix."""
    png: bytes
    caption: str


Block = str | Table | Picture
"""A string is a paragraph."""


class Section(NamedTuple):
    """A heading with paragraphs, tables and pictures."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False
    """A page shows its heading alone, until a reader opens it."""


def to_text(sections: Sequence[Section]) -> str:
    """Plain text for a terminal; of a picture its caption."""
    blocks = []
    for section in sections:
        blocks.append(f"{section.title.upper()}\n{'=' * len(section.title)}")
        blocks += map(_text_block, section.blocks)
    return "\n\n".join(blocks) + "\n"


def to_markdown(sections: Sequence[Section], pictures: str = "figures") -> str:
    """Markdown; the first section's title is the document's. ``pictures``: folder of the PNGs."""
    blocks = []
    for level, section in enumerate(sections):
        blocks.append(f"{'##' if level else '#'} {section.title}")
        blocks += [_markdown_block(block, pictures) for block in section.blocks]
    return "\n\n".join(blocks) + "\n"


def _text_block(block: Block) -> str:
    if isinstance(block, Table):
        return _text_table(block)
    return _fill(block.caption if isinstance(block, Picture) else block)


def _text_table(table: Table) -> str:
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    body = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([table.title, "", body[0], rule, *body[1:], *map(_fill, table.notes)])


def _fill(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH)


def _markdown_block(block: Block, pictures: str) -> str:
    if isinstance(block, Table):
        return _markdown_table(block)
    if isinstance(block, Picture):
        return f"![{block.caption}]({pictures}/{block.name}.png)\n\n*{block.caption}*"
    return block


def _markdown_table(table: Table) -> str:
    body = [table.header, ("---",) * len(table.header), *table.rows]
    lines = [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in body]
    return "\n\n".join([f"**{table.title}**", "\n".join(lines), *table.notes])


def _cell(text: str) -> str:
    return text.replace("|", r"\|")

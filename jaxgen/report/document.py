"""Documents of sections, paragraphs, tables and pictures, as text, markdown, HTML or LaTeX."""

import base64
import csv
import html
import io
import re
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


def to_html(sections: Sequence[Section]) -> str:
    """One self-contained page: pictures are in it, nothing is loaded from elsewhere."""
    parts = []
    for level, section in enumerate(sections):
        tag = "h2" if level else "h1"
        parts.append(f"<{tag}>{_escape(section.title)}</{tag}>")
        parts += map(_html_block, section.blocks)
    return _PAGE.format(title=_escape(sections[0].title), body="\n".join(parts))


def to_csv(table: Table) -> str:
    """The cells of a table as they are printed."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.header, *table.rows])
    return stream.getvalue()


def to_latex(table: Table) -> str:
    """A ``tabular`` in the style of the booktabs package, the title as a comment."""
    lines = [" & ".join(map(_latex_text, row)) + r" \\" for row in (table.header, *table.rows)]
    return "\n".join([
        f"% {table.title}",
        rf"\begin{{tabular}}{{{'l' * len(table.header)}}}",
        r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", "",
    ])  # fmt: skip


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


def _html_block(block: Block) -> str:
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Picture):
        data, caption = base64.b64encode(block.png).decode(), _escape(block.caption)
        return (
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f"<p>{_escape(block)}</p>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    notes = "\n".join(f'<p class="note">{_escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="wide"><table><caption>{_escape(table.title)}</caption>\n'
        f"<thead>{row(table.header, 'th')}</thead>\n<tbody>{body}</tbody></table></div>\n{notes}"
    )


def _escape(text: str) -> str:
    """HTML of a text, with markdown's `code` and **bold**."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _latex_text(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return escaped.replace("+-", r"$\pm$")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222;
       font: 16px/1.5 system-ui, sans-serif; }}
h1, h2 {{ line-height: 1.2; margin-top: 2.5rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; margin: 1rem 0 .3rem; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem; }}
th, td {{ text-align: left; padding: .15rem .8rem .15rem 0; white-space: nowrap;
         font-variant-numeric: tabular-nums; }}
th {{ border-bottom: 2px solid #444; }}
td {{ border-bottom: 1px solid #ddd; }}
.note, figcaption {{ color: #555; font-size: .85rem; margin: .2rem 0; }}
figure {{ margin: 1.5rem 0; }}
img {{ max-width: 100%; }}
code {{ font-size: .9em; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""

"""Documents as one HTML page that loads nothing: contents, folding, tables that scroll and sort."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

from jaxgen.report.documents.document import Block, Section, Table

LONG_NOTE = 160
"""Letters of a note from which on it is folded."""


def to_html(sections: Sequence[Section], tips: Mapping[str, str] | None = None) -> str:
    """One self-contained page: pictures, styles and script are in it.

    Args:
      sections: the first one's title is the page's; each other one can be folded.
      tips: explanations of headers of columns, by header.
    """
    first, *others = sections
    parts = [f"<h1>{_escape(first.title)}</h1>"]
    if others:
        links = "".join(
            f'<li><a href="#part-{number}">{_escape(section.title)}</a></li>'
            for number, section in enumerate(others, 1)
        )
        parts.append(f"<nav><details open><summary>Contents</summary><ol>{links}</ol>"
                     "</details></nav>")  # fmt: skip
    parts += [_block(block, tips or {}) for block in first.blocks]
    for number, section in enumerate(others, 1):
        state = "" if section.folded else " open"
        parts.append(
            f'<details class="part" id="part-{number}"{state}>'
            f"<summary><h2>{_escape(section.title)}</h2></summary>"
        )
        parts += [_block(block, tips or {}) for block in section.blocks]
        parts.append("</details>")
    page = _PAGE.replace("TITLE", _escape(first.title), 1).replace("STYLE", _STYLE, 1)
    return page.replace("SCRIPT", _SCRIPT, 1).replace("BODY", "\n".join(parts), 1)


def _block(block: Block, tips: Mapping[str, str]) -> str:
    if isinstance(block, Table):
        return _table(block, tips)
    if isinstance(block, str):
        return f"<p>{_escape(block)}</p>"
    data, caption = base64.b64encode(block.png).decode(), _escape(block.caption)
    return (
        f'<figure><img alt="{html.escape(block.caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(table: Table, tips: Mapping[str, str]) -> str:
    header = "".join(_header(name, tips.get(name)) for name in table.header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in table.rows
    )
    return (
        f'<div class="table"><p class="title">{_escape(table.title)}</p>\n'
        f'<div class="wide" tabindex="0"><table><thead><tr>{header}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n{''.join(map(_note, table.notes))}</div>"
    )


def _header(name: str, tip: str | None) -> str:
    attribute = f' data-tip="{html.escape(tip)}"' if tip else ""
    return f"<th><button{attribute}>{_escape(name)}</button></th>"


def _note(note: str) -> str:
    if len(note) < LONG_NOTE:
        return f'<p class="note">{_escape(note)}</p>'
    start = note[:60].rsplit(" ", 1)[0]
    return (
        f'<details class="note"><summary>{_escape(start)} ...</summary>'
        f"<p>{_escape(note)}</p></details>"
    )


def _escape(text: str) -> str:
    """HTML of a text, with markdown's `code` and **bold**."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


_STYLE = """
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; }
h2 { display: inline; font-size: 1.4rem; }
summary { cursor: pointer; }
.part { margin-top: 2rem; border-top: 1px solid #ccc; padding-top: 1rem; }
nav { background: #f6f6f6; padding: .6rem 1rem; border-radius: .3rem; }
nav ol { columns: 16rem; margin: .4rem 0; }
.title { font-weight: 600; margin: 1.2rem 0 .3rem; }
.wide { overflow-x: auto; max-width: 100%; border: 1px solid #ddd; }
table { border-collapse: separate; border-spacing: 0; font-size: .85rem; }
th, td { text-align: left; padding: .15rem .7rem; white-space: nowrap; background: #fff;
         font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th { border-bottom: 2px solid #444; }
td { border-bottom: 1px solid #eee; }
tbody tr:nth-child(even) td { background: #f8f8f8; }
th:first-child, td:first-child, .fixed { position: sticky; left: 0; z-index: 1; }
th button { all: unset; cursor: pointer; font-weight: 600; white-space: nowrap; }
th button:focus-visible { outline: 2px solid #0072b2; }
th button[data-tip] { text-decoration: underline dotted #888; text-underline-offset: .2em; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
#tip { position: fixed; max-width: 20rem; padding: .4rem .6rem; background: #222; color: #fff;
       font-size: .8rem; border-radius: .3rem; z-index: 9; pointer-events: none; }
.note, figcaption { color: #555; font-size: .85rem; margin: .2rem 0; }
.note p { margin: .2rem 0 .2rem 1rem; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
code { font-size: .9em; }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .6rem; font-size: 15px; }
  figure { overflow-x: auto; } img { max-width: none; width: max(100%, 36rem); } }
@media print { th button::after { content: "" !important; } .wide { overflow: visible; } }
"""

_SCRIPT = r"""
const number = text => {
  const found = text.replace(/,(?=\d{3})/g, "").match(/^[<\s]*([-+]?\d*\.?\d+(e[-+]?\d+)?)/i);
  return found ? parseFloat(found[1]) : null;
};
const compare = (one, other, sign) => {
  const [a, b] = [number(one), number(other)];
  if (a !== null && b !== null) return sign * (a - b);
  return a === b ? sign * one.localeCompare(other) : a === null ? 1 : -1;
};
function sort(button) {
  const head = button.parentNode, row = head.parentNode, column = [...row.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending", body = row.closest("table").tBodies[0];
  for (const other of row.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const text = line => line.cells[column].textContent;
  const lines = [...body.rows].sort((a, b) => compare(text(a), text(b), up ? 1 : -1));
  body.append(...lines);
}
function fix(table) {
  const rows = [...table.rows], box = table.parentNode, body = rows.slice(1);
  if (!box.clientWidth) return;
  for (const cell of table.querySelectorAll(".fixed")) cell.classList.remove("fixed");
  let left = 0;
  for (let column = 0; column < rows[0].cells.length; column++) {
    const width = rows[0].cells[column].offsetWidth;
    const counts = column && body.every(row => number(row.cells[column].textContent) !== null);
    if (column && (counts || left + width > box.clientWidth / 2)) break;
    for (const row of rows) {
      row.cells[column].classList.add("fixed");
      row.cells[column].style.left = left + "px";
    }
    left += width;
  }
}
const fixAll = () => document.querySelectorAll("table").forEach(fix);
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
function show(event) {
  const button = event.target.closest("[data-tip]");
  tip.hidden = !button;
  if (!button) return;
  tip.textContent = button.dataset.tip;
  const place = button.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(place.left, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = place.bottom + 6 + "px";
}
for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, show);
addEventListener("scroll", () => { tip.hidden = true; }, true);
document.addEventListener("click", event => {
  const button = event.target.closest("th button");
  if (button) sort(button);
});
function unfold() {
  const part = location.hash && document.getElementById(location.hash.slice(1));
  if (part) { part.open = true; part.scrollIntoView(); }
}
addEventListener("hashchange", unfold);
addEventListener("resize", fixAll);
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
document.addEventListener("toggle", fixAll, true);
fixAll();
unfold();
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title>
<style>STYLE</style>
</head>
<body>
BODY
<script>SCRIPT</script>
</body>
</html>
"""

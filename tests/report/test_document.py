"""Documents: the same blocks as text, markdown, HTML, CSV and LaTeX."""

import csv
import io
import re
from html.parser import HTMLParser

from jaxgen.report.document import (
    WIDTH,
    Picture,
    Section,
    Table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
)

SPECIAL = r"a_b & 50 % of {x} # $1 ~ ^ < > \ end"
TABLE = Table(
    "Title", ("name", "value, unit"), [("plain", "1"), (SPECIAL, 'a "quoted"\ncell')], ("A note.",)
)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The tags and the text of a page; its tags must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def page_of(*blocks) -> Page:
    return Page(to_html([Section("Title", blocks)]))


def columns_of(line: str) -> int:
    """Cells of a line of a markdown table."""
    return len(re.split(r"(?<!\\)\|", line)) - 2


# HTML


def test_html_escapes_what_would_be_markup():
    text = "a < b & c > d \"e\" <script>alert('x')</script>"
    page = page_of(text, Table(text, (text,), [(text,)], (text,)), Picture("x", b"", text))
    assert page.count("script") == 0
    # Paragraph, caption, header, cell, note and the caption of the picture.
    assert page.text.count(text) == 6
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert image["alt"] == text
    assert Page(to_html([Section("a < b & c", [])])).text.count("a < b & c") == 2


def test_html_renders_bold_and_code():
    html = to_html([Section("Title", ["**Does it?** Run `matrix.py --out a<b` or **not**."])])
    assert "<strong>Does it?</strong>" in html and "<strong>not</strong>" in html
    assert "<code>matrix.py --out a&lt;b</code>" in html
    assert "*" not in html and "`" not in html


def test_html_leaves_single_stars_and_ticks_alone():
    assert "2 * 3 * 4 and 5 ` 6" in page_of("2 * 3 * 4 and 5 ` 6").text


def test_html_has_one_heading_of_the_first_order_and_is_well_formed():
    page = Page(to_html([Section(name, [TABLE, "text"]) for name in ("One", "Two", "Three")]))
    assert (page.count("h1"), page.count("h2"), page.count("table")) == (1, 2, 3)
    assert page.count("th") == 3 * 2 and page.count("td") == 3 * 4


def test_html_loads_nothing_and_holds_its_pictures():
    page = page_of(*(Picture(name, b"png", name) for name in "abc"), TABLE)
    sources = [attributes["src"] for _, attributes in page.tags if "src" in attributes]
    assert len(sources) == 3
    assert all(source is not None and source.startswith("data:image/png") for source in sources)
    assert not any("href" in attributes for _, attributes in page.tags)


# Markdown


def test_markdown_tables_have_one_width():
    table = Table("Title", ("a", "b", "c"), [("1", "2", "3"), ("", "x y", "-")], ("Note.",))
    lines = [x for x in to_markdown([Section("T", [table])]).splitlines() if x.startswith("|")]
    assert [columns_of(line) for line in lines] == [3] * 4
    assert set(lines[1]) <= set("|- ")


def test_a_bar_in_a_cell_of_markdown_begins_no_new_cell():
    lines = to_markdown([Section("T", [Table("Title", ("a", "b"), [("x | y", "z")])])]).splitlines()
    assert [columns_of(line) for line in lines if line.startswith("|")] == [2] * 3


def test_markdown_links_its_pictures_and_shows_their_captions():
    text = to_markdown([Section("T", [Picture("ranking", b"png", "A caption.")])], "../figures")
    assert "![A caption.](../figures/ranking.png)" in text and "*A caption.*" in text
    assert "](figures/ranking.png)" in to_markdown([Section("T", [Picture("ranking", b"", "")])])


def test_markdown_has_one_title():
    text = to_markdown([Section("One", ["text"]), Section("Two", []), Section("Three", [])])
    assert re.findall(r"^#+ .*", text, re.M) == ["# One", "## Two", "## Three"]
    assert text.endswith("\n") and not text.endswith("\n\n")


# CSV and LaTeX


def test_csv_reads_back():
    back = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert list(map(tuple, back)) == [TABLE.header, *TABLE.rows]


def test_latex_escapes_all_special_characters():
    row = to_latex(Table("T", ("x",), [(SPECIAL,)])).splitlines()[5]
    assert row == (
        r"a\_b \& 50 \% of \{x\} \# \$1 \textasciitilde{} \textasciicircum{} \textless{} "
        r"\textgreater{} \textbackslash{} end \\"
    )
    bare = re.sub(r"\\[a-z]+\{\}|\\.", "", row)
    assert not set(bare) & set("&%$#_{}~^<>\\")


def test_latex_has_as_many_cells_in_every_row_as_columns():
    lines = to_latex(TABLE._replace(rows=[(SPECIAL, "+-1"), ("a", "b")])).splitlines()
    (alignment,) = re.findall(r"\\begin\{tabular\}\{(l+)\}", "\n".join(lines))
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 3 and alignment == "ll"
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]


# Text


def test_text_is_no_wider_than_its_width_but_for_tables():
    text = to_text([Section("Title", ["word " * 100, Picture("x", b"", "caption " * 50)])])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.startswith("TITLE\n=====\n")


def test_columns_of_text_are_aligned():
    table = Table("T", ("a", "b"), [("long cell", "x"), ("s", "y")])
    lines = to_text([Section("S", [table])]).splitlines()
    starts = [line.index(cell) for line in lines for cell in ("b", "x", "y") if line.endswith(cell)]
    assert starts == [len("long cell") + 2] * 3

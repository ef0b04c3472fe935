"""Documents: the same blocks as text and markdown."""

import re

from jaxgen.report.documents.document import WIDTH, Picture, Section, Table, to_markdown, to_text


def columns_of(line: str) -> int:
    """Cells of a line of a markdown table."""
    return len(re.split(r"(?<!\\)\|", line)) - 2


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

"""Documents as HTML: well formed, whole in itself, with contents and tables that can be sorted."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jaxgen.report.documents.document import Picture, Section, Table
from jaxgen.report.documents.page import LONG_NOTE, to_html

TABLE = Table("Title", ("name", "value, unit"), [("plain", "1"), ("a_b", "2")], ("A note.",))
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


def test_html_escapes_what_would_be_markup():
    text = "a < b & c > d \"e\" <script>alert('x')</script>"
    page = page_of(text, Table(text, (text,), [(text,)], (text,)), Picture("x", b"", text))
    # The page's own script and no other.
    assert page.count("script") == 1
    # Paragraph, caption, header, cell, note and the caption of the picture.
    assert page.text.count(text) == 6
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert image["alt"] == text
    assert Page(to_html([Section("a < b & c", [])])).text.count("a < b & c") == 2


def test_html_renders_bold_and_code():
    html = to_html([Section("Title", ["**Does it?** Run `matrix.py --out a<b` or **not**."])])
    assert "<strong>Does it?</strong>" in html and "<strong>not</strong>" in html
    assert "<code>matrix.py --out a&lt;b</code>" in html
    body = html[html.index("<body>") : html.index("<script>")]
    assert "*" not in body and "`" not in body


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
    links = [str(attributes["href"]) for _, attributes in page.tags if "href" in attributes]
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"(src|href)=.?(http|//)|url\(|@import", to_html([Section("T", [])]))


# Contents, folding, headers


def test_contents_lead_to_every_section_but_the_first():
    page = Page(to_html([Section(name, []) for name in ("One", "Two", "Three")]))
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    targets = [attributes.get("id") for tag, attributes in page.tags if tag == "details"]
    assert links == ["#part-1", "#part-2"]
    assert {link[1:] for link in links} <= set(targets)
    assert "Contents" not in page_of("text").text


def test_a_folded_section_is_closed_and_others_are_open():
    html = to_html([Section("One", []), Section("Two", []), Section("Three", [], folded=True)])
    parts = [attributes for tag, attributes in Page(html).tags
             if tag == "details" and attributes.get("class") == "part"]  # fmt: skip
    assert ["open" in attributes for attributes in parts] == [True, False]


def test_headers_are_buttons_with_explanations_where_there_are_some():
    html = to_html([Section("Title", [TABLE])], {"name": 'Says "who" it is.'})
    buttons = [attributes for tag, attributes in Page(html).tags if tag == "button"]
    assert [attributes.get("data-tip") for attributes in buttons] == ['Says "who" it is.', None]


def test_long_notes_are_folded_and_whole():
    note = "Every word of this note counts. " * (LONG_NOTE // 20)
    page = page_of(TABLE._replace(notes=(note, "A short one.")))
    assert page.count("details") == 1
    assert note in page.text and "A short one." in page.text


# In a browser


def browser() -> str:
    """The path of a browser; the test is skipped where there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-headless-shell", "google-chrome")
    for path in (shutil.which(name) for name in names if name):
        if path:
            return path
    pytest.skip("there is no chromium; install it, or name it in the variable CHROMIUM")


SORTED = """
<script>
document.querySelectorAll("th button")[1].click();
document.querySelectorAll("th button")[1].click();
</script>
</body>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1300])
def test_a_browser_runs_the_script_without_a_complaint(tmp_path, width):
    path = Path(tmp_path / "page.html")
    table = TABLE._replace(rows=[("one", "9"), ("two", "10"), ("three", "-")])
    html = to_html([Section("One", []), Section("Two", [table])], {"name": "Tip."})
    path.write_text(html.replace("</body>", SORTED), encoding="utf-8")
    process = subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom",
         path.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "CONSOLE" not in process.stderr
    assert 'class="fixed"' in process.stdout and 'aria-sort="descending"' in process.stdout
    order = re.findall(r"<td[^>]*>(one|two|three)<", process.stdout)
    assert order == ["two", "one", "three"]

"""The pages: links, anchors and paths in them lead somewhere, and their commands are understood."""

import re
import shlex
from pathlib import Path

import pytest

from experiments import command_line, report
from jaxgen import __main__ as tools

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "envs_jax", "experiments", "jaxgen", "tests")
PAGES = sorted([
    ROOT / "README.md", *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))
])  # fmt: skip
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
"""A file or folder of the repository by its name from the root."""
BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


PARSERS = {
    "python experiments/matrix.py": command_line.parse,
    "python experiments/report.py": report.parse,
    "jaxgen": tools.parse,
}


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if link.startswith("https://github.com/jaxgen/jaxgen/blob/main/"):
            target, anchor = ROOT / link.partition("/blob/main/")[2], ""
        elif re.match(r"[a-z]+:", link):
            continue
        else:
            name, _, anchor = link.partition("#")
            target = (page.parent / name) if name else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_exist(page):
    """Paths in words and in commands, but for links, and for what the benchmarks write aside."""
    text = LINK.sub("]", page.read_text())
    paths = set(PATH.findall(text)) - {"benchmarks/results/quick"}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_front_page():
    reached, new = set(), [ROOT / "README.md"]
    while new:
        page = new.pop()
        reached.add(page)
        links = LINK.findall(page.read_text())
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links}
        new += [each for each in PAGES if each in targets - reached]
    assert reached == set(PAGES)


def test_commands_are_understood():
    """Each line of a block that starts the matrix, a report or a tool has flags that exist."""
    blocks = [block for page in PAGES for block in BLOCK.findall(page.read_text())]
    lines = [line for block in blocks for line in block.splitlines()]
    seen = set()
    for line in lines:
        for start, parse in PARSERS.items():
            if line.startswith(f"{start} ") or line == start:
                parse(shlex.split(line.removeprefix(start)))
                seen.add(start)
    assert seen == PARSERS.keys()

"""The committed study: experiments/RESULTS.md says what experiments/study/ contains."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from jaxgen.report.source import CURVES, MAKING, ROWS, read_source, write_report

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDY, PAGE = EXPERIMENTS / "study", EXPERIMENTS / "RESULTS.md"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory) -> Path:
    """As ``report.py experiments/study --page experiments/RESULTS.md`` makes it."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "study").mkdir()
    for name in (ROWS, CURVES, MAKING):
        shutil.copy(STUDY / name, folder / "study")
    write_report(read_source(folder / "study"), folder / "study", folder / PAGE.name)
    return folder


def test_every_number_of_the_results_is_rebuilt(rebuilt):
    assert (rebuilt / PAGE.name).read_text() == PAGE.read_text()


def test_every_figure_of_the_results_is_rebuilt(rebuilt):
    names = sorted(file.name for file in (STUDY / "figures").iterdir())
    assert names == sorted(file.name for file in (rebuilt / "study" / "figures").iterdir())
    for name in names:
        assert f"study/figures/{name}" in PAGE.read_text()
        ours, theirs = (imread(root / "figures" / name) for root in (STUDY, rebuilt / "study"))
        assert ours.shape == theirs.shape
        # Letters may be drawn a little differently elsewhere.
        assert np.abs(ours - theirs).mean() < 0.01


def test_what_is_committed_is_small():
    assert (STUDY / ROWS).stat().st_size < 2_000_000
    assert all(file.stat().st_size < 300_000 for file in (STUDY / "figures").iterdir())


def test_the_readme_quotes_the_results():
    """Each interval of its results stands in RESULTS.md as well."""
    readme = (EXPERIMENTS.parent / "README.md").read_text()
    section = readme[readme.index("## Findings") : readme.index("## Pages")]
    quoted = re.findall(r"[-+]?\d\.\d+ \[[^]]+\]", " ".join(section.split()))
    assert len(quoted) == 4
    assert not [text for text in quoted if text not in PAGE.read_text()]

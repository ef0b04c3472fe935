"""Fixtures of all tests of the report."""

import pytest

from jaxgen.report import figures, style
from jaxgen.report.generalisation import pictures

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def unpictured(monkeypatch):
    """No figure is made at all."""
    for name in ("ranking", "differences", "profiles", "improvement", "agreement", "learning"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    for name in ("degradation", "shift"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    monkeypatch.setattr(style, "to_png", lambda _: PNG)

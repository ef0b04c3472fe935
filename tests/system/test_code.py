"""Digests of code: another program has another digest, and the same one in other words has not."""

import importlib
import itertools
import subprocess
import sys

import pytest

from jaxgen.system import code

NUMBERS = itertools.count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """(text of a module, text of the one that it imports) -> digest; {} is the package's name."""

    def digest(main: str, helper: str = "x = 1\n") -> str | None:
        name = f"mine{next(NUMBERS)}"
        folder = tmp_path / name
        folder.mkdir()
        for file, text in (("__init__", ""), ("main", main), ("helper", helper)):
            (folder / f"{file}.py").write_text(text.replace("{}", name))
        importlib.invalidate_caches()
        return code.digest(f"{name}.main")

    monkeypatch.syspath_prepend(tmp_path)
    return digest


FIRST = "FORCE = 10.0\n\n\ndef step(x):\n    return x * FORCE\n"


def test_another_number_is_another_program(package):
    assert package(FIRST) == package(FIRST)
    assert package(FIRST) != package(FIRST.replace("10.0", "5.0"))
    assert package(FIRST) != package(FIRST.replace("x * FORCE", "x + FORCE"))


def test_words_and_layout_are_no_other_program(package):
    words = '"""A module."""\n\nFORCE = 10.0\n"""In newtons."""\n\ndef step(x):\n'
    words += '    """Push."""\n    # Hard.\n    return (x\n            * FORCE)\n'
    assert package(FIRST) == package(words)


@pytest.mark.parametrize("line", ["from .helper import x", "from . import helper"])
def test_what_a_module_imports_of_its_package_counts(package, line):
    assert package(line) == package(line)
    assert package(line) != package(line, "x = 2\n")


@pytest.mark.parametrize("line", ["from {}.helper import x", "import {}.helper"])
def test_a_module_is_followed_by_its_whole_name_too(package, line, monkeypatch):
    seen = []
    tree = code._tree
    monkeypatch.setattr(code, "_tree", lambda name: seen.append(name) or tree(name))
    package(line)
    assert [name.partition(".")[2] for name in dict.fromkeys(seen)] == ["main", "helper"]


def test_numeric_packages_are_followed_from_anywhere(package, monkeypatch):
    assert "jaxgen.algorithms" in code.NUMERIC
    before = package("from jaxgen.algorithms import gradients\n")
    tree = code._tree
    monkeypatch.setattr(
        code, "_tree", lambda name: tree("ast" if name.endswith(".gradients") else name)
    )
    assert package("from jaxgen.algorithms import gradients\n") != before


def test_code_that_is_not_at_hand_has_no_digest(monkeypatch):
    code.digest.cache_clear()
    assert code.digest("nowhere.at.all") is None
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert code.digest("__main__") is None


def test_no_parent_is_imported_for_a_digest():
    """Importing jaxgen.algorithms takes seconds, and JAX with it."""
    check = (
        "import sys; from jaxgen.system.code import digest\n"
        "assert digest('jaxgen.algorithms.ppo') and digest('envs_jax.cartpole')\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0

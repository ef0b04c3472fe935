"""Files of a user's own that register environments, algorithms and techniques."""

import sys
from typing import Any

import pytest

from jaxgen import load_plugin, register_environment, register_technique
from jaxgen.study.cards import (
    ALGORITHM_CARDS,
    ENVIRONMENT_CARDS,
    figure_title,
    register_algorithm,
    sentence_title,
)
from jaxgen.study.cards.base import AlgorithmCard, EnvironmentCard, TaskCard
from jaxgen.study.config import PPOConfig
from jaxgen.study.presets import preset
from jaxgen.system import code
from jaxgen.system.errors import BadInput
from jaxgen.techniques import COMPONENTS, Technique

REGISTRIES: list[Any] = [ALGORITHM_CARDS, ENVIRONMENT_CARDS, COMPONENTS]
LINE = "from jaxgen import Technique, register_technique\n"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What is registered or imported here is gone afterwards."""
    before = [dict(registry) for registry in REGISTRIES]
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)


def test_a_file_registers_and_may_import_its_neighbours(tmp_path):
    (tmp_path / "own_levels.py").write_text("LEVELS = (0.0, 0.1, 0.2)\n")
    file = tmp_path / "own_near.py"
    file.write_text(
        f"{LINE}from own_levels import LEVELS\nregister_technique('near', Technique(LEVELS))\n"
    )
    module = load_plugin(file)
    assert COMPONENTS["near"].levels == (0.0, 0.1, 0.2) and sys.modules["own_near"] is module
    assert load_plugin(str(file)) is module
    before = code.digest("own_near")
    (tmp_path / "own_levels.py").write_text("LEVELS = (0.0, 0.1, 0.3)\n")
    code.forget()
    assert code.digest("own_near") != before


def test_a_file_that_has_changed_takes_the_place_of_what_it_was(tmp_path):
    file = tmp_path / "own_changed.py"
    file.write_text(f"{LINE}register_technique('one', Technique((0.0, 0.1, 0.1)))\n")
    load_plugin(file)
    digest = code.digest("own_changed")
    file.write_text(f"{LINE}register_technique('two', Technique((0.0, 0.2, 0.2)))\n")
    load_plugin(file)
    assert "one" not in COMPONENTS and COMPONENTS["two"].levels == (0.0, 0.2, 0.2)
    assert code.digest("own_changed") != digest


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("own_bad.py", "x = 1\nx.y\n", r"own_bad.py, line 2: AttributeError: 'int' object has no"),
        ("own_bad.py", "def\n", r"own_bad.py, line 1: SyntaxError"),
        ("own_bad.py", f"{LINE}register_technique('a/b', Technique())\n",
         r"own_bad.py, line 2: technique 'a/b' is not allowed as a name"),
        ("own_bad.py", f"{LINE}register_technique('dr', Technique())\n",
         r"line 2: technique 'dr' is registered already; give yours another name, or replace=True"),
        ("own-bad.py", "", "own-bad.py is not allowed; name it like a variable, e.g. my_env.py"),
        ("json.py", "", r"json.py has the name of a module \(.*json/__init__.py\); rename the"),
        ("own_bad.txt", "", "own_bad.txt is not allowed; give a Python file, e.g. my_env.py"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_loaded_is_named_and_leaves_nothing(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_text(text)
    before = [dict(registry) for registry in REGISTRIES]
    with pytest.raises(BadInput, match=f"plug-in .*{message}"):
        load_plugin(file)
    assert [dict(registry) for registry in REGISTRIES] == before
    assert "own_bad" not in sys.modules


def test_what_was_registered_before_an_error_is_forgotten(tmp_path):
    file = tmp_path / "own_half.py"
    file.write_text(f"{LINE}register_technique('half', Technique((0.0, 0.1, 0.1)))\n1 / 0\n")
    with pytest.raises(BadInput, match="own_half.py, line 3: ZeroDivisionError"):
        load_plugin(file)
    assert "half" not in COMPONENTS


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match="nowhere.py is not allowed; give a Python file"):
        load_plugin(tmp_path / "nowhere.py")


def test_names_are_checked_and_used_once():
    task = TaskCard(make="own:make")
    with pytest.raises(BadInput, match=r"environment '../x' is not allowed as a name"):
        register_environment(EnvironmentCard(name="../x", task=task))
    with pytest.raises(BadInput, match="environment 'cartpole' is registered already"):
        register_environment(EnvironmentCard(name="cartpole", task=task))
    register_environment(ENVIRONMENT_CARDS["cartpole"])
    mine = EnvironmentCard(name="cartpole", task=task)
    register_environment(mine, replace=True)
    assert ENVIRONMENT_CARDS["cartpole"] is mine
    card = AlgorithmCard(config=PPOConfig, make="own:make")
    with pytest.raises(BadInput, match="algorithm 'ppo' is registered already"):
        register_algorithm(card)
    with pytest.raises(BadInput, match=r"technique 'a\+b' is not allowed as a name: \+ joins two"):
        register_technique("a+b", Technique())


def test_an_environment_may_have_no_title_and_is_told_how_to_get_presets():
    register_environment(EnvironmentCard(name="bare", task=TaskCard(make="own:make")))
    assert (figure_title("bare"), sentence_title("bare")) == ("bare", "bare")
    with pytest.raises(BadInput, match=r"own gets it from its card: setups=\{'ppo': Setup\(PPOCon"):
        preset("ppo", "bare")

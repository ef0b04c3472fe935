"""Guards of the layout: who may import whom, and how large the rooms may become."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "system", "techniques", "study", "nn", "algorithms", "evaluation", "training", "results",
    "report", "running",
)  # fmt: skip
"""Folders of jaxgen, bottom up: each imports only those before it, itself and ``types``."""
FLAT = {"__init__", "__main__", "api", "types"}
"""Files at the top of jaxgen: the axes and types below all folders, and the doors above them."""
WITHOUT_JAX = ("system", "techniques", "study", "results")
"""Folders whose modules import no JAX when they are imported, but for a type checker."""
MAX_MODULES, MAX_LINES, MAX_FUNCTION = 14, 450, 60


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the two packages by its dotted name."""
    files = [file for name in ("jaxgen", "envs_jax") for file in (ROOT / name).rglob("*.py")]
    names = (file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in files)
    return {
        name.removesuffix(".__init__"): ast.parse(file.read_text())
        for name, file in zip(names, files, strict=True)
    }


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Modules that a module imports anywhere, and whether only a type checker does."""
    typed = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typed) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in modules() else node.module), id(node) in typed


def folder_of(module: str) -> str | None:
    """The folder of jaxgen that a module lies in; None: in none of them."""
    parts = module.split(".")
    return parts[1] if parts[0] == "jaxgen" and len(parts) > 1 and parts[1] in FOLDERS else None


def test_the_layout_is_the_one_that_is_listed():
    entries = {path for path in (ROOT / "jaxgen").iterdir() if path.name != "__pycache__"}
    assert {path.name for path in entries if path.is_dir()} == set(FOLDERS)
    assert {path.stem for path in entries if path.suffix == ".py"} == FLAT


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_those_below_it(folder):
    allowed = FOLDERS[: FOLDERS.index(folder) + 1]
    for name, tree in modules().items():
        if folder_of(name) == folder:
            for target, _ in imported(tree):
                top = target.split(".")[0]
                assert top != "envs_jax", f"{name} imports {target}"
                if top == "jaxgen" and target != "jaxgen.types":
                    assert folder_of(target) in allowed, f"{name} imports {target}, which is above"


def test_environments_import_types_and_cards_only():
    for name, tree in modules().items():
        if name.startswith("envs_jax"):
            for target, _ in imported(tree):
                if target.startswith("jaxgen"):
                    assert target == "jaxgen.types" or folder_of(target) == "study", (name, target)


def test_modules_import_each_other_in_no_circle():
    arrows = {
        name: {target for target, typed in imported(tree) if target in modules() and not typed}
        for name, tree in modules().items()
    }
    left = {name: set(targets) - {name} for name, targets in arrows.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"these import each other: {sorted(left)}"


@cache
def loaded_with(name: str) -> frozenset[str]:
    """Modules that are imported with a module: what it imports at its top, and so on."""
    heads: list[ast.stmt] = [
        node for node in modules()[name].body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    targets = {target for target, _ in imported(ast.Module(heads, []))}
    further = (loaded_with(target) for target in targets if target in modules())
    return frozenset(targets.union(*further))


@pytest.mark.parametrize("folder", WITHOUT_JAX)
def test_plans_and_files_import_no_jax(folder):
    for name in modules():
        if folder_of(name) == folder:
            packages = {target.split(".")[0] for target in loaded_with(name)}
            assert not packages & {"jax", "flax", "optax", "orbax", "chex"}, name
            assert "jaxgen.types" not in loaded_with(name), name


def test_no_room_is_too_large():
    """Modules of a folder (a package inside counts as one), lines of a module and of a function."""
    for tracked in ("jaxgen", "envs_jax", "experiments", "benchmarks"):
        for file in (ROOT / tracked).rglob("*.py"):
            lines = len(file.read_text().splitlines())
            assert lines <= MAX_LINES, f"{file.relative_to(ROOT)} has {lines} lines"
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno + 1
                    assert length <= MAX_FUNCTION, f"{file}: {node.name} has {length} lines"
        for folder in {file.parent for file in (ROOT / tracked).rglob("*.py")}:
            inside = [path for path in folder.iterdir() if path.suffix == ".py"
                      or (path.is_dir() and (path / "__init__.py").exists())]
            inside = [path for path in inside if path.name != "__init__.py"]
            assert len(inside) <= MAX_MODULES, f"{folder.relative_to(ROOT)} has {len(inside)}"


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone; a run of one folder would not notice."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)

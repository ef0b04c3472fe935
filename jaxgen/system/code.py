"""Digests of the code that numbers come from, so that two programs are not pooled unsaid.

Comments, docstrings and the layout of lines do not count.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

CORE = 1
"""Version of all code that makes numbers and is in no digest; raised by hand where they change."""

NUMERIC = ("jaxgen.algorithms", "jaxgen.nn", "envs_jax")
"""Packages whose modules are followed wherever they are imported."""


@cache
def digest(module: str) -> str | None:
    """Eight hexadecimal digits of the code of a module and of those that it imports, as far as
    they lie in its own package, beside it where it has none, or in `NUMERIC` ones.

    None: its source is not at hand.
    """
    if _tree(module) is None:
        return None
    names, new = {module}, [module]
    while new:
        further = set(_imported(new.pop(), module)) - names
        names |= further
        new += further
    text = "\n".join(ast.unparse(tree) for name in sorted(names) if (tree := _tree(name)))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def forget() -> None:
    """Read all modules again: one of them has changed on the disk and was imported anew."""
    digest.cache_clear()
    _tree.cache_clear()


@cache
def _tree(module: str) -> ast.Module | None:
    """The syntax of a module without its docstrings."""
    source = _source(module)
    if source is None:
        return None
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # An attribute's docstring is an expression too.
            code = [part for part in body if not _is_text(part)]
            node.body = code or [ast.Pass()]  # pyright: ignore[reportAttributeAccessIssue]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _source(module: str) -> Path | None:
    """The file of a module, of which no parent is imported for that."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None and module != "__main__":
        top, *rest = module.split(".")
        try:
            spec = find_spec(top)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        path = spec.origin
        if rest:
            folder = Path(*(spec.submodule_search_locations or [""])[:1], *rest)
            package = folder / "__init__.py"
            path = str(package if package.exists() else folder.with_name(f"{folder.name}.py"))
    return Path(path) if path and path.endswith(".py") and Path(path).is_file() else None


def _imported(module: str, first: str) -> Iterator[str]:
    """Modules that a module imports and that are followed from the first one."""
    package = module.rpartition(".")[0]
    followed = tuple(f"{name}." for name in (first.rpartition(".")[0], *NUMERIC) if name)
    for node in ast.walk(_tree(module) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package or None)
            names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (
            name for name in names
            if (name.startswith(followed) or _is_beside(name, first)) and _source(name)
        )


def _is_beside(module: str, first: str) -> bool:
    """Whether two modules without packages lie in one folder."""
    if "." in module or "." in first:
        return False
    files = _source(module), _source(first)
    return all(files) and files[0].parent == files[1].parent  # pyright: ignore

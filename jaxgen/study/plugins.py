"""A user's own environments, algorithms, techniques and networks, in files outside of the package.

A plug-in is a Python file that registers cards when it is imported::

    from jaxgen import register_environment

Its folder may hold further modules that it imports. Nothing here imports JAX, and a file that
imports it where it is used is listed as quickly as the package's own.
"""

import sys
import traceback
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from jaxgen.study.cards import ALGORITHM_CARDS, ENVIRONMENT_CARDS
from jaxgen.study.networks import NETWORKS
from jaxgen.system import code
from jaxgen.system.errors import BadInput
from jaxgen.techniques import COMPONENTS

_REGISTRIES = (ENVIRONMENT_CARDS, ALGORITHM_CARDS, COMPONENTS, NETWORKS)
_loaded: dict[Path, tuple[bytes, ModuleType, list[set[str]]]] = {}
"""Content, module and names in each registry of the files that were loaded."""


def load_plugin(path: str | Path) -> ModuleType:
    """Import a file that registers environments, algorithms, techniques or networks.

    A file that has changed since is imported again, in place of what it registered before.

    Args:
      path: a Python file; its name without ``.py`` becomes the module's.

    Raises:
      BadInput: there is no such file, another module has its name, or the file cannot be imported;
        nothing of it stays registered then.
    """
    path = Path(path).expanduser().resolve()
    name = _module_name(path)
    source = path.read_bytes()
    if path in _loaded:
        if _loaded[path][0] == source:
            return _loaded[path][1]
        _forget(path)
    before = [set(registry) for registry in _REGISTRIES]
    if str(path.parent) not in sys.path:
        # Last, so that a file there hides no package.
        sys.path.append(str(path.parent))
    module = _execute(path, name, source, before)
    code.forget()
    names = [set(registry) - old for registry, old in zip(_REGISTRIES, before, strict=True)]
    _loaded[path] = source, module, names
    return module


def _module_name(path: Path) -> str:
    """The name of a plug-in's module, which no other module may have."""
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"plug-in {path} is not allowed; give a Python file, e.g. my_env.py")
    name = path.stem
    if not name.isidentifier():
        raise BadInput(f"plug-in {path} is not allowed; name it like a variable, e.g. my_env.py")
    other = sys.modules.get(name)
    taken = getattr(other, "__file__", "built in") if other else _found_elsewhere(name)
    if taken and path not in _loaded and Path(taken).resolve() != path:
        raise BadInput(f"plug-in {path} has the name of a module ({taken}); rename the file")
    return name


def _found_elsewhere(name: str) -> str | None:
    """The file of a module of this name that could be imported; None: there is none."""
    spec = find_spec(name)
    return None if spec is None else spec.origin or name


def _execute(path: Path, name: str, source: bytes, before: list[set[str]]) -> ModuleType:
    spec = spec_from_file_location(name, path)
    assert spec is not None, "a .py file has a loader"
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not by the loader: it takes bytecode of a file that had this size in this second for it.
        exec(compile(source, path, "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        for registry, old in zip(_REGISTRIES, before, strict=True):
            for key in set(registry) - old:
                del registry[key]
        raise BadInput(f"plug-in {_place(path, error)}: {_words(error)}") from error
    return module


def _place(path: Path, error: Exception) -> str:
    """A plug-in's file, with the last of its lines that an error went through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"


def _forget(path: Path) -> None:
    for registry, names in zip(_REGISTRIES, _loaded.pop(path)[2], strict=True):
        for name in names:
            registry.pop(name, None)

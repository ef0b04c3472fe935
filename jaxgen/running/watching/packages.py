"""The packages of the writers, which are optional."""

import importlib
from types import ModuleType

from jaxgen.system.errors import BadInput

REMEDY = "pip install tensorboardX 'wandb>=0.19.10'"


def import_package(module: str, name: str) -> ModuleType:
    """Import an optional package; ValueError says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"{name} needs a package that is missing: {error}; {REMEDY}") from error

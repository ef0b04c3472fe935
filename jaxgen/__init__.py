"""jaxgen: which combination of algorithm and training technique generalises best?

The names below are imported when they are first used, so that importing the
package, listing a plan or refusing bad input costs no start of JAX.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Agent": "evaluation.agent",
    "load_agent": "evaluation.saving",
    "save_agent": "evaluation.saving",
    "compute_grs": "api",
    "evaluate": "api",
    "train": "api",
    "run_study": "api",
    "configure": "system.platform",
    "plot_degradation": "report.agents",
    "plot_learning_curves": "report.agents",
    "preset": "study.presets",
    "replace": "study.config",
    "make_study": "study.product",
    "make_technique": "techniques",
    "Technique": "techniques",
    "load_plugin": "study.plugins",
    "register_algorithm": "study.cards",
    "register_environment": "study.cards",
    "register_network": "study.networks",
    "register_technique": "techniques",
    "AlgorithmCard": "study.cards.base",
    "EnvironmentCard": "study.cards.base",
    "Setup": "study.cards.base",
    "TaskCard": "study.cards.base",
    "Title": "study.cards.base",
}

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # Its environments are known to whoever enters by this door.
        import_module("envs_jax")
        import_module("jaxgen.system.platform").quieten()
        return getattr(import_module(f"jaxgen.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'jaxgen' has no attribute {name!r}")

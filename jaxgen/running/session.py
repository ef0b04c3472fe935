"""Records that the parts of a running study share: options, batches of lanes, the session."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxgen.evaluation.references import References
from jaxgen.evaluation.suite import Suite
from jaxgen.results.store import Store
from jaxgen.running.kinds.base import Kind
from jaxgen.running.reporter import Lane, Reporter
from jaxgen.study.programs import program_words
from jaxgen.system.files import content_hash
from jaxgen.types import HostTask, Task


class Interrupted(Exception):
    """A stop was asked for; what was trained until then is in a checkpoint."""


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a result."""

    vmap_seeds: bool = True
    """All seeds in one program, or the same program seed by seed."""
    max_lanes: int | None = None
    """Lanes in one program; more are trained in turn. None: as many as memory holds."""
    num_devices: int | None = None
    """Lanes are split over so many devices; None: over all."""
    chunks_per_point: int = 4
    """Calls of the compiled program between two points of a learning curve."""
    checkpoint_seconds: float = 30.0
    """The least time between two checkpoints."""
    memory_share: float = 1.0
    """The part of the memory that is free which this process may take; others take the rest."""
    bridge: Literal["callback", "loop", "steps"] | None = None
    """How environments on the host are stepped, see `jaxgen.training.host`."""
    keep_agents: bool = True
    """Keep every agent beside its results, in ``agent.npz``; or the best ones only."""
    fresh: bool = False
    """Discard what the store holds of the study's runs."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked between chunks and between batches."""


class Batch(NamedTuple):
    """Lanes that are trained together."""

    lanes: list[Lane]

    @property
    def identity(self) -> list[list[Any]]:
        """JSON-ready (run name, seed) pairs."""
        return [[spec.name, seed] for spec, seed in self.lanes]

    @property
    def label(self) -> str:
        """Algorithm and environment, and what its program does that others do not, for a reader."""
        spec = self.lanes[0][0]
        special = program_words(spec)
        return " ".join([spec.algorithm, spec.environment, *special])

    def checkpoint_path(self, store: Store) -> Path:
        """The folder of the batch's in-flight state, named by its list of lanes."""
        spec = self.lanes[0][0]
        name = f"{spec.algorithm}_{spec.environment}-{content_hash(self.identity)}"
        return store.path(f"checkpoints/{name}")


class Session(NamedTuple):
    """All that the groups of a study share while they run."""

    store: Store
    make_task: Callable[..., Task | HostTask]
    options: Options
    reporter: Reporter
    kind: Kind
    """What is made of trained batches."""
    episodes: dict[str, tuple[References, Suite]]
    """Those of final evaluations and of learning curves by environment: laid out once."""
    alone: bool = True
    """No other process writes into the store."""

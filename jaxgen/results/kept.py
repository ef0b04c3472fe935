"""Agents that were kept during a run's training: at shares of it, and where its curve was best."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgen.results.store import Store
from jaxgen.study.spec import RunSpec
from jaxgen.system.files import DamagedFile, write_bytes

BEST = "best"
"""What the agent of a learning curve's best point is called among those at shares of training."""


def agent_of(store: Store, run: str, seed: int, share: float) -> Path:
    """The file of a run's agent at a share of its training, or (share 1) at its end.

    Raises:
      DamagedFile: it was not kept, is damaged or another's.
    """
    if share == 1:
        return store.check_agent(run, seed)
    return store.check_agent(run, seed, agent_name(f"{share:g}"))


def best_agent_of(store: Store, run: str, seed: int) -> Path:
    """The file of the agent at the best point of a followed run's learning curve.

    Raises:
      DamagedFile: it was not kept, is damaged or another's.
    """
    return store.check_agent(run, seed, agent_name(BEST))


def agent_at(store: Store, spec: RunSpec, seed: int, share: float) -> Path:
    """The same file as `agent_of` gives, of a run that may have gone on from another one: from then
    on its own, before that one's."""
    steps, found = spec.config.steps_at(share), None
    for run, budget, shares in _with_past(store, spec):
        config = dataclasses.replace(spec.config, total_steps=budget)
        for own in (*shares, 1.0):
            if config.steps_at(own) == steps:
                try:
                    return agent_of(store, run, seed, own)
                except DamagedFile as damage:
                    found = found or damage
    raise found or DamagedFile(
        store.seed_dir(spec.name, seed), f"no agent was kept after {steps} env steps"
    )


def best_agent_at(store: Store, spec: RunSpec, seed: int) -> Path:
    """The same file as `best_agent_of` gives, where the best point may lie before a run went on
    from another one."""
    found = None
    for run, _, _ in _with_past(store, spec):
        try:
            return best_agent_of(store, run, seed)
        except DamagedFile as damage:
            found = found or damage
    assert found is not None, "a run is the last of its own past"
    raise found


def _with_past(store: Store, spec: RunSpec) -> Iterator[tuple[str, int, tuple[float, ...]]]:
    """Name, budget and kept shares of a run, of the one that it went on from, and so forth."""
    yield spec.name, spec.config.total_steps, spec.followed or ()
    start: Any = None if spec.start is None else spec.start.to_dict()
    while start is not None:
        before = store.read_spec(start["run"])
        budget = before["config"]["total_steps"]
        yield start["run"], budget, tuple(before.get("followed", ()))
        start = before.get("start")


def keep_start(store: Store, path: Path) -> str:
    """Copy an agent that runs begin with into a folder of results; return its digest."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:8]
    copy = store.path(f"starts/{digest}.npz")
    if not copy.exists() or copy.read_bytes() != data:
        write_bytes(copy, data)
    return digest


def start_of(store: Store, digest: str) -> Path:
    """The file of an agent that runs begin with; DamagedFile: it is missing, or another's."""
    path = store.path(f"starts/{digest}.npz")
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest()[:8] != digest:
        raise DamagedFile(path, "it is not the agent that runs of this folder began with")
    return path


def agent_name(moment: str) -> str:
    """The name of an agent's file below its seed's folder."""
    return f"snapshots/{moment}.npz"

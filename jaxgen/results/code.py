"""The code that made the runs of a folder, beside today's: no cell pools two programs unsaid."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxgen.results.store import Store
from jaxgen.study.cards import environment_card
from jaxgen.study.networks import IMAGE_ENCODERS, NETWORKS
from jaxgen.study.presets import algorithm_card
from jaxgen.study.product import Study
from jaxgen.study.spec import RunSpec
from jaxgen.system import checkpoint
from jaxgen.system.code import CORE, digest
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile


def code_of(spec: RunSpec) -> dict[str, Any]:
    """The code behind a run, for its provenance; a technique is numbers, and in the run's name."""
    environment = environment_card(spec.environment).task.make
    algorithm = algorithm_card(spec.algorithm).make
    network = NETWORKS.get(spec.config.network)
    parts = {"environment": environment, "algorithm": algorithm}
    if network and spec.config.network not in IMAGE_ENCODERS:
        parts["network"] = network
    return {part: digest(make.partition(":")[0]) for part, make in parts.items()} | {"core": CORE}


def check_code(study: Study, store: Store) -> None:
    """Raise BadInput where training would add seeds to runs that other code has made."""
    changes = list(_changes(study, store))
    if changes:
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise BadInput(
            f"{changes[0]}{more}; add --fresh to train these runs anew, --accept to have seeds of "
            "both, or give another folder"
        )


def _changes(study: Study, store: Store) -> Iterator[str]:
    in_flight = {
        (run, seed): meta.get("code")
        for meta in _metas(store) for run, seed in meta.get("lanes", [])
    }
    for group in study.groups:
        for spec in group.specs:
            today, name = code_of(spec), spec.name
            done = store.seeds(name)
            if set(group.seeds) <= set(done):
                continue
            begun = [seed for seed in group.seeds if (name, seed) in in_flight]
            for seed in done + begun:
                if part := changed(_code(store, name, seed) or in_flight.get((name, seed)), today):
                    yield f"{name} seed {seed} was made by another version of its {part}"
                    break


def changed(before: Mapping[str, Any] | None, today: Mapping[str, Any]) -> str | None:
    """The first part of the code that differs; None: none, as far as is known."""
    for part, value in today.items():
        known = (before or {}).get(part)
        if None not in (known, value) and known != value:
            return part
    return None


def _code(store: Store, run: str, seed: int) -> Mapping[str, Any] | None:
    try:
        return store.read_provenance(run, seed).get("code")
    except DamagedFile:
        return None


def _metas(store: Store) -> Iterator[dict[str, Any]]:
    for path in checkpoint.saved_in(store.root / "checkpoints"):
        try:
            yield checkpoint.peek(path)
        except checkpoint.DamagedCheckpoint:
            continue

"""The results on disk: one folder, written atomically by one process at a time.

::

    store.json                          what this folder is, and its schema
    runs/<run name>/spec.json           everything that decides the results of the run's seeds
    runs/<run name>/seed_0000/          agent.npz, history.npz, provenance.json, last result.json
    <anything else>                     derived from the runs: tables, figures, best models

The files are the truth; there is no index that could disagree with them. ``result.json`` holds
only what is deterministic, is written last, and its presence means that the seed is done. Every
JSON file that is read again is *sealed*: canonical bytes that carry their own SHA-256, so that
any flipped bit or truncation is found, named, and never read as data.

Only numpy and the standard library are needed here.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.results.lock import StoreError
from jaxgen.system import archives
from jaxgen.system.errors import BadInput
from jaxgen.system.files import (
    NAME,
    SCHEMA,
    DamagedFile,
    canonical_json,
    check_name,
    load_sealed,
    seal,
    sync,
    temporary,
    write_bytes,
)

KIND = "jaxgen results"
MARKER = "store.json"
"""File that says what a folder is."""
AGENT = archives.AGENT_FILE
"""File of a seed that holds what was trained."""

DONE = "done"
MISSING = "missing"
_RUN_DIR = re.compile(r".+-[0-9a-f]{8}")
_SEED_DIR = re.compile(r"seed_(\d{4,})")


class StoredRun(NamedTuple):
    """One finished seed of a run."""

    run_name: str
    spec: dict[str, Any]
    seed: int
    result: dict[str, Any]


class Scan(NamedTuple):
    """The runs in a results folder, in the order of names and seeds."""

    runs: list[StoredRun]
    aliases: dict[str, dict[str, Any]]
    """Specs with ``alias_of``, by run name: runs that are others by another name."""
    damaged: list[DamagedFile]


def open_store(root: str | Path, create: bool = True) -> "Store":
    """Open a results folder, for writing and if need be new, or (``create=False``) for reading.

    Raises:
        StoreError: the folder cannot be made or written, holds something else, has another
            schema, or (``create=False``) is not there.
    """
    store = Store(Path(root).expanduser().absolute())
    if create:
        _make_writable(store.root)
    elif not store.root.is_dir():
        raise StoreError(f"there are no results in {store.root}; check the path, or run first")
    marker = store.root / MARKER
    if marker.exists():
        _check_marker(store.root, marker)
    elif any(not entry.name.startswith(".") for entry in store.root.iterdir()):
        advice = "give a new or empty folder" if create else "check the path"
        raise StoreError(
            f"{store.root} holds files but no store.json, so it is no results folder; {advice}"
        )
    elif not create:
        raise StoreError(f"there are no results in {store.root}; check the path, or run first")
    else:
        write_bytes(marker, seal({"schema": SCHEMA, "kind": KIND}), "store")
    return store


def scan(store: "Store", prefix: str = "", whole: bool = True) -> Scan:
    """Read all finished seeds; what is damaged, or no run of this folder, is listed, not read.

    Args:
        store: the folder.
        prefix: of the names of the runs.
        whole: check the files that are large, or tell how a seed ran, too.
    """
    contents = Scan([], {}, [])
    folder = store.root / "runs"
    for run in sorted(folder.iterdir()) if folder.is_dir() else ():
        if run.name.startswith(".") or not run.name.startswith(prefix):
            continue
        if not _is_run(run):
            contents.damaged.append(DamagedFile(run, "it is no run; move it out of this folder"))
            continue
        try:
            spec = store.read_spec(run.name)
        except DamagedFile as damage:
            contents.damaged.append(damage)
            continue
        if spec.get("alias_of"):
            contents.aliases[run.name] = spec
        _scan_seeds(store, run.name, spec, contents, whole)
    return contents


@dataclass(frozen=True)
class Store:
    """A results folder; make one with `open_store`, and write only inside `locked`."""

    root: Path

    def path(self, name: str) -> Path:
        """The path of ``name`` (parts separated by ``/``) below the root.

        Raises:
            ValueError: a part is not allowed by `check_name`, or a link leads out of the root.
        """
        path = self.root.joinpath(*(check_name(part) for part in name.split("/")))
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise BadInput(f"{path} leads out of {self.root}; remove the link")
        return path

    def run_dir(self, run_name: str) -> Path:
        """The folder of a run, ``runs/<algorithm>_<environment>_<arm>-<hash>``."""
        return self.path(f"runs/{check_name(run_name)}")

    def seed_dir(self, run_name: str, seed: int) -> Path:
        """The folder of one seed of a run; ValueError if the seed is negative or no integer."""
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed {seed!r} is not allowed; use a whole number from 0")
        return self.run_dir(run_name) / f"seed_{seed:04d}"

    def run_names(self) -> list[str]:
        """The names of the runs, in order, without copies under other names."""
        folder = self.root / "runs"
        entries = folder.iterdir() if folder.is_dir() else ()
        return sorted(entry.name for entry in entries if _is_run(entry))

    def seeds(self, run_name: str) -> list[int]:
        """The finished seeds of a run, in order, whole or damaged."""
        folder = self.run_dir(run_name)
        entries = folder.iterdir() if folder.is_dir() else ()
        done = (_seed_of(entry) for entry in entries if (entry / "result.json").exists())
        return sorted(seed for seed in done if seed is not None)

    def write_spec(self, run_name: str, spec: Mapping[str, Any]) -> DamagedFile | None:
        """Write a run's spec.json unless it is there; returns the damage that was replaced, if any.

        Raises:
            StoreError: the folder belongs to another spec.
        """
        data = seal({**spec, "schema": _same_schema(spec)})
        path = self.run_dir(run_name) / "spec.json"
        damage = None
        if path.exists():
            try:
                known = seal(load_sealed(path))
            except DamagedFile as error:
                damage = error
            else:
                if known != data:
                    raise StoreError(
                        f"{path} is of another spec than this run; give another results folder"
                    )
                return None
        write_bytes(path, data, "spec")
        return damage

    def read_spec(self, run_name: str) -> dict[str, Any]:
        """A run's spec; DamagedFile if it is missing or damaged."""
        return load_sealed(self.run_dir(run_name) / "spec.json")

    def write_result(
        self,
        run_name: str,
        seed: int,
        result: Mapping[str, Any],
        history: Mapping[str, np.ndarray],
        provenance: Mapping[str, Any],
        agent: bytes | None = None,
    ) -> None:
        """Write a finished seed; ``result`` gains ``schema`` and ``history_sha256``.

        All is checked before anything is written. ``history`` may hold NaN, JSON may not.

        Args:
            run_name: of the run.
            seed: of the run.
            result: what is deterministic.
            history: arrays by name.
            provenance: where and how fast it ran.
            agent: what was trained, see `jaxgen.evaluation.saving.pack_agent`; None: not kept.

        Raises:
            ValueError: NaN in ``result`` or ``provenance``, a reserved key, or a history array
                that is not of numbers.
        """
        folder = self.seed_dir(run_name, seed)
        arrays = archives.pack(history)
        if "history_sha256" in result:
            raise ValueError("the key 'history_sha256' is written by the store; use another one")
        digest = hashlib.sha256(arrays).hexdigest()
        schema = _same_schema(result)
        sealed = seal({**result, "schema": schema, "history_sha256": digest})
        origin = seal(provenance)
        self.discard(run_name, seed)
        if agent is not None:
            self.write_agent(run_name, seed, agent)
        write_bytes(folder / "history.npz", arrays, "history")
        write_bytes(folder / "provenance.json", origin, "provenance")
        write_bytes(folder / "result.json", sealed, "result")

    def write_agent(
        self, run_name: str, seed: int, agent: bytes, name: str = AGENT
    ) -> None:
        """Write the agent of a seed whose result is there already, or comes next."""
        write_bytes(self.seed_dir(run_name, seed) / name, agent, "agent")

    def check_agent(self, run_name: str, seed: int, name: str = AGENT) -> Path:
        """The file of a seed's agent; DamagedFile if it was not kept, is damaged or another's."""
        path = self.seed_dir(run_name, seed) / name
        if not path.exists():
            raise DamagedFile(path, "it was not kept")
        meta = archives.load_described(path)[1]
        if (meta.get("run"), meta.get("seed")) != (run_name, seed):
            raise DamagedFile(path, f"it is a copy of {meta.get('run')} seed {meta.get('seed')}")
        return path

    def read_result(self, run_name: str, seed: int) -> dict[str, Any]:
        """A seed's result; DamagedFile if it is missing, damaged, another's or another schema's."""
        path = self.seed_dir(run_name, seed) / "result.json"
        result = load_sealed(path)
        if result.get("schema") != SCHEMA:
            raise DamagedFile(path, f"it has schema {result.get('schema')!r}, not {SCHEMA}")
        run = {"name": run_name, "seed": seed} | (result.get("run") or {})
        if (run["name"], run["seed"]) != (run_name, seed):
            raise DamagedFile(path, f"it is a copy of {run['name']} seed {run['seed']}")
        return result

    def read_history(self, run_name: str, seed: int) -> dict[str, np.ndarray]:
        """A seed's history by name; DamagedFile if it is not the one that its result names."""
        data = self._history_bytes(run_name, seed, self.read_result(run_name, seed))
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def read_provenance(self, run_name: str, seed: int) -> dict[str, Any]:
        """Read where and how fast a seed ran; DamagedFile if it is missing or damaged."""
        return load_sealed(self.seed_dir(run_name, seed) / "provenance.json")

    def check_run(self, run_name: str, seed: int) -> str:
        """Say ``done``, ``missing``, or ``damaged: <path>: <why>`` of one seed."""
        if not (self.seed_dir(run_name, seed) / "result.json").exists():
            return MISSING
        try:
            self._history_bytes(run_name, seed, self.read_result(run_name, seed))
            self.read_provenance(run_name, seed)
        except DamagedFile as damage:
            return f"damaged: {damage}"
        return DONE

    def is_done(self, run_name: str, seed: int) -> bool:
        """Whether a seed is finished and all its files are whole."""
        return self.check_run(run_name, seed) == DONE

    def discard(self, run_name: str, seed: int) -> None:
        """Make a seed count as not done, so that it is computed anew; its agent is no more."""
        folder = self.seed_dir(run_name, seed)
        # The result first: it says that all else is there.
        for path in (folder / "result.json", folder / AGENT):
            if path.exists():
                path.unlink()
                sync(folder)

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a derived file, ``name`` below the root (``plots/x.png``); returns its path."""
        path = self.path(name)
        write_bytes(path, data, "derived")
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a derived UTF-8 text file; returns its path."""
        return self.write_bytes(name, text.encode())

    def write_json(self, name: str, obj: Any) -> Path:
        """Write a derived file of canonical JSON; returns its path, ValueError on NaN."""
        return self.write_text(name, canonical_json(obj))

    def _history_bytes(self, run_name: str, seed: int, result: Mapping[str, Any]) -> bytes:
        path = self.seed_dir(run_name, seed) / "history.npz"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DamagedFile(path, error.strerror or str(error)) from error
        if hashlib.sha256(data).hexdigest() != result.get("history_sha256"):
            raise DamagedFile(path, "its content does not match the sha256 in result.json")
        return data


def _is_run(folder: Path) -> bool:
    """Whether a folder has the name of a run."""
    named = NAME.fullmatch(folder.name) and _RUN_DIR.fullmatch(folder.name)
    return bool(named) and folder.is_dir()


def _seed_of(folder: Path) -> int | None:
    """The seed of which a folder bears the name; None: another name."""
    match = _SEED_DIR.fullmatch(folder.name)
    return int(match[1]) if match and folder.name == f"seed_{int(match[1]):04d}" else None


def _scan_seeds(
    store: Store, run_name: str, spec: dict[str, Any], contents: Scan, whole: bool
) -> None:
    for entry in sorted(store.run_dir(run_name).iterdir()):
        expected = entry.name == "spec.json" or entry.name.startswith(".")
        if not expected and _seed_of(entry) is None:
            contents.damaged.append(
                DamagedFile(entry, "it is no seed of this run; move it out of this folder")
            )
    for seed in store.seeds(run_name):
        try:
            result = store.read_result(run_name, seed)
            if whole:
                store._history_bytes(run_name, seed, result)
                store.read_provenance(run_name, seed)
        except DamagedFile as damage:
            contents.damaged.append(damage)
        else:
            contents.runs.append(StoredRun(run_name, spec, seed, result))


def _same_schema(content: Mapping[str, Any]) -> int:
    schema = content.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise ValueError(f"schema {schema!r} is not allowed; this version writes {SCHEMA}")
    return SCHEMA


def _make_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = temporary(root / "probe")
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{root} cannot be written ({error.strerror}); give a folder that can"
        ) from error


def _check_marker(root: Path, marker: Path) -> None:
    try:
        content = load_sealed(marker)
    except DamagedFile as damage:
        raise StoreError(
            f"{damage}; give another folder, or copy this file from another results folder of "
            "the same version"
        ) from damage
    if content.get("kind") != KIND:
        raise StoreError(f"{root} holds {content.get('kind')!r}, no results; give another folder")
    if content.get("schema") != SCHEMA:
        raise StoreError(
            f"{root} has schema {content.get('schema')!r} and this version needs {SCHEMA}; "
            "give another folder, or use the version that wrote it"
        )

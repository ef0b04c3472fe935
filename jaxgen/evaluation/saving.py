"""Agents on disk: one small file each, without pickle, that carries all that acting needs."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.specs import spec_from_dict, spec_to_dict
from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.config import Config, from_dict, to_dict
from jaxgen.system import archives, checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, write_bytes

VERSION = 2
"""Version of what is saved of an agent. 1 and 0 were folders; 0, which names no version, lacks
``fault``."""
SUFFIX = ".npz"


def save_agent(path: str | Path, agent: Agent) -> Path:
    """Write an agent to a file, an npz with checksums; an agent that is there is replaced.

    Args:
      path: the file; ``.npz`` is added where it is missing, and folders that do not exist are made.
      agent: from `jaxgen.train` or `load_agent`.

    Returns:
      The path of the file.

    Raises:
      BadInput: something else than an agent lies there; it stays.
    """
    path = _with_suffix(Path(path).expanduser())
    archives.check_replaceable(path, archives.AGENT)
    write_bytes(path, pack_agent(agent))
    return path


def pack_agent(agent: Agent) -> bytes:
    """The bytes of an agent's file: ``params``, float32 ``[D]``, ``critic`` if it is kept, and
    ``meta``, all else as JSON."""
    card = ALGORITHM_CARDS[agent.config.algorithm]
    meta = {
        "kind": archives.AGENT,
        "version": VERSION,
        "module": card.make.partition(":")[0],
        "algorithm": agent.algorithm,
        "base": agent.config.algorithm,
        "technique": agent.technique,
        "config": to_dict(agent.config),
        "spec": spec_to_dict(agent.spec),
        "seed": agent.seed,
        "fault": agent.fault,
        "run": agent.run,
        "task_options": agent.task_options,
    }
    arrays = {"params": np.asarray(agent.params)}
    if agent.critic is not None:
        arrays["critic"] = np.asarray(agent.critic)
    return archives.pack_described(arrays, meta)


def load_agent(path: str | Path) -> Agent:
    """Read an agent, e.g. ``results/best_models/ppo_cartpole_best.npz``.

    Settings that an older version did not save have the defaults of their class, and a warning
    names them.

    Args:
      path: a file of `save_agent`, with or without ``.npz``; the folder of a seed of a study; or a
        folder that an older version saved.

    Raises:
      jaxgen.system.files.DamagedFile: it is missing or not what was written.
      BadInput: it holds something else than an agent, one of a newer version, or one of an
        algorithm that is not registered.
    """
    path = Path(path).expanduser()
    arrays, meta = _read(path)
    if meta.get("kind") != archives.AGENT:
        raise BadInput(f"{path} holds no agent; use a file of best_models")
    config, spec = _config(path, meta), spec_from_dict(meta["spec"])
    return Agent(
        meta["algorithm"], meta["technique"], config, spec, arrays.get("params"), meta["seed"],
        meta.get("fault"), meta.get("run"), meta.get("task_options"), critic=arrays.get("critic"),
    )


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    if (path / archives.AGENT_FILE).is_file():
        path = path / archives.AGENT_FILE
    elif not path.exists() and _with_suffix(path).exists():
        path = _with_suffix(path)
    if path.is_file():
        return archives.load_described(path)
    try:
        tree, meta = checkpoint.load(path)
    except checkpoint.DamagedCheckpoint as damage:
        why = damage.why if checkpoint.exists(path) else "there is no agent"
        raise DamagedFile(damage.path, why) from damage
    return tree, meta


def _with_suffix(path: Path) -> Path:
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def _config(path: Path, meta: dict[str, Any]) -> Config:
    """The configuration of a saved agent."""
    if meta.get("version", 0) > VERSION:
        raise BadInput(
            f"{path} was saved by a newer jaxgen (version {meta['version']} of agents; this one "
            f"reads up to {VERSION}); install that"
        )
    card = ALGORITHM_CARDS.get(meta["base"])
    if card is None:
        raise BadInput(
            f"{path} is an agent of {meta['base']}, an algorithm that is not registered here; load "
            f"the plug-in that registers it first ({meta.get('module', 'unknown')}.py)"
        )
    config = from_dict(card.config, meta["config"])
    absent = [f"{key} = {value!r}" for key, value in to_dict(config).items()
              if key not in meta["config"]]  # fmt: skip
    if absent:
        warnings.warn(
            f"{path} was saved by an older jaxgen, without {', '.join(absent)}: these are defaults "
            "of today, so that it may act otherwise than it was trained to",
            stacklevel=3,
        )
    return config

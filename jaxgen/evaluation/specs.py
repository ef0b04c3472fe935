"""Specifications in saved agents: an `EnvSpec` as JSON and back.

Agents that were saved before there were spaces are read too.
"""

import math
from typing import Any

from jaxgen.types import Box, Codes, Discrete, EnvSpec, Image, Numbers

SPACES = {"discrete": Discrete, "box": Box, "image": Image, "codes": Codes, "numbers": Numbers}
"""Spaces by the name that they have in a file."""


def spec_to_dict(spec: EnvSpec) -> dict[str, Any]:
    """Write a specification, to be read by `spec_from_dict`."""
    spaces = {"observation": _write(spec.observation), "actions": _write(spec.actions)}
    return vars(spec) | spaces


def spec_from_dict(fields: dict[str, Any]) -> EnvSpec:
    """Read a specification, of this form or of the one before it."""
    if "num_actions" in fields:
        return _without_spaces(**fields)
    spaces = {name: _read(fields[name]) for name in ("observation", "actions")}
    return EnvSpec(**fields | spaces)


def _write(space: Any) -> dict[str, Any]:
    (name,) = (name for name, kind in SPACES.items() if type(space) is kind)
    values = {
        key: list(map(_end, value)) if isinstance(value, tuple) else value
        for key, value in space._asdict().items()
    }
    return {"space": name} | values


def _end(value: float) -> float | str:
    """A number as JSON has it, which knows no infinity."""
    return str(value) if math.isinf(value) else value


def _read(fields: dict[str, Any]) -> Any:
    values = {
        key: tuple(float(x) if isinstance(x, str) else x for x in value)
        if isinstance(value, list) else value
        for key, value in fields.items()
        if key != "space"
    }
    return SPACES[fields["space"]](**values)


def _without_spaces(
    name: str,
    obs_shape: list[int],
    obs_dtype: str,
    num_actions: int,
    max_episode_steps: int,
    num_codes: int | None = None,
    first_code: int = 0,
    obs_low: tuple[float, ...] = (0.0,),
    obs_high: tuple[float, ...] = (1.0,),
    truncates: bool = True,
) -> EnvSpec:
    """Read the fields of a specification that had no spaces; one bound may stand for all."""
    shape = tuple(obs_shape)
    if num_codes is not None:
        observation = Codes(shape, num_codes, first_code)
    elif obs_dtype == "uint8":
        observation = Image(*shape)
    else:
        low, high = (
            tuple(ends) * (shape[0] if len(ends) == 1 else 1) for ends in (obs_low, obs_high)
        )
        observation = Numbers(low, high)
    return EnvSpec(name, observation, Discrete(num_actions), max_episode_steps, truncates)

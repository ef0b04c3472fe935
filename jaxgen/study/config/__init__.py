"""Hyper-parameters: frozen dataclasses, validation, JSON.

Presets are on the cards of the environments (`jaxgen.study.cards`).

Nothing here imports JAX, so that a plan can be listed at once. Float fields
become pytree leaves (they can vary between the lanes of one compiled program),
all other fields are static; `jaxgen.algorithms.base.register_config` does that.
A field's docstring is its help text and gives the reason for its value.
"""

from jaxgen.study.config.base import Config
from jaxgen.study.config.off_policy import (
    ActorCriticConfig,
    DQNConfig,
    OffPolicyConfig,
    SACConfig,
    TD3Config,
)
from jaxgen.study.config.on_policy import EpisodicConfig, ESConfig, GRPOConfig, PPOConfig
from jaxgen.study.config.values import (
    check_keys,
    float_fields,
    from_dict,
    json_ready,
    replace,
    to_dict,
)

__all__ = [
    "ActorCriticConfig", "Config", "DQNConfig", "ESConfig", "EpisodicConfig", "GRPOConfig",
    "OffPolicyConfig", "PPOConfig", "SACConfig", "SHIFT_LEVELS", "TD3Config", "check_keys",
    "float_fields", "from_dict", "json_ready", "replace", "to_dict",
]  # fmt: skip

SHIFT_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The variation levels of evaluation; 0 is the training environment."""

"""Environments that live on the host: the way to them, and episodes that follow from seeds."""

from envs_jax.host.bridge import MAX_ARGUMENT_BYTES, CallbackBridge

__all__ = ["CallbackBridge", "MAX_ARGUMENT_BYTES"]

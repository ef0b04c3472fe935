"""Stacks of the last images of an episode, uint8 ``[..., H, W, C * K]``, oldest first.

An episode begins with its first image in every place, so that nothing of the episode before is
seen. Functions take numpy or JAX arrays and give the same.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgen.types import EnvSpec


def begin(image: Any, num_frames: int) -> Any:
    """A stack of an episode's first image: ``[..., C]`` -> ``[..., C * K]``."""
    return _numpy_of(image).concatenate([image] * num_frames, axis=-1)


def push(spec: EnvSpec, stack: Any, image: Any, first: Any) -> Any:
    """Add the next image and drop the oldest.

    Args:
      spec: of the environment, that is of a single image (or of any observation, as it is).
      stack: ``[..., H, W, C * K]``; K follows from it.
      image: ``[..., H, W, C]``.
      first: bool ``[...]``; an episode begins with this image.
    """
    if not spec.is_image or stack.shape == image.shape:
        return image
    xp, channels = _numpy_of(image), image.shape[-1]
    longer = xp.concatenate([stack[..., channels:], image], axis=-1)
    fresh = begin(image, stack.shape[-1] // channels)
    return xp.where(first[..., None, None, None], fresh, longer)


def newest(spec: EnvSpec, stack: Any) -> Any:
    """The last image of a stack; spec is that of a single image."""
    return stack[..., -spec.obs_shape[-1] :]


def _numpy_of(array: Any) -> Any:
    return np if isinstance(array, np.ndarray) else jnp

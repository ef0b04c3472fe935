"""Augmentations of observations, applied where gradients are taken and nowhere else.

Acting, targets, evaluation and the probe see what the environment showed.
"""

from typing import Any, Protocol

import chex
import jax

from jaxgen.techniques import Technique
from jaxgen.types import Array, PyTree

NONE = "none"

AUGMENT_KEY = 0x617567
"""Folded into a key for an augmentation, so that no other draw from the key changes."""


class Augmentation(Protocol):
    """A random change of observations that leaves their meaning as it is."""

    def __call__(self, key: Array, images: Array, share: Array | float) -> Array:
        """Change a share of the images, each by draws of its own.

        Args:
          key: randomness.
          images: uint8 ``[..., H, W, C]``, or observations of another shape and dtype.
          share: probability in [0, 1] that an image is changed.

        Returns:
          Images of the same shape and dtype.
        """
        ...


AUGMENTATIONS: dict[str, Augmentation] = {}
"""Augmentations by the name that a technique's ``augment`` gives."""


def augmented(technique: Technique, key: Array | None, batch: Any) -> PyTree:
    """Augment the observations of a batch, leaves ``[V, B, ...]``, as the technique says.

    Raises:
      ValueError: the technique names an augmentation that is not registered.
    """
    if technique.augment == NONE:
        return batch
    if technique.augment not in AUGMENTATIONS:
        allowed = ", ".join((NONE, *AUGMENTATIONS))
        raise ValueError(f"unknown augmentation {technique.augment!r}; allowed: {allowed}")
    assert key is not None, "an augmentation draws from a key"
    augment = AUGMENTATIONS[technique.augment]
    obs = augment(jax.random.fold_in(key, AUGMENT_KEY), batch.obs, technique.augment_share)
    chex.assert_trees_all_equal_shapes_and_dtypes(obs, batch.obs)
    return batch._replace(obs=obs)

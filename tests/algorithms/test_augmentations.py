"""Augmentations act where gradients are taken, by a key of their own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms.augmentations import AUGMENTATIONS
from jaxgen.algorithms.gradients import variation_gradient
from jaxgen.algorithms.ppo import Batch
from jaxgen.techniques import make_technique
from jaxgen.training.program import stack_lanes
from probe_envs import tiny_config


def turned(key, images, share):
    """Change the sign of a share of the images ``[V, B, ...]``."""
    chosen = jax.random.uniform(key, images.shape[:2]) < share
    return jnp.where(jnp.expand_dims(chosen, range(2, images.ndim)), -images, images)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS, "turned", turned)


def with_share(share: float, name: str = "turned"):
    return replace(make_technique("dr"), augment=name, augment_share=share)


NUMBERS = jax.random.normal(jax.random.key(0), (3, 400))
BATCH = Batch(jax.random.normal(jax.random.key(1), (3, 400, 2)), *[NUMBERS] * 4)


def gradient(technique, seed: int = 0):
    def loss(params, batch):
        return (batch.obs @ params * batch.target).mean(), {}

    return np.asarray(
        variation_gradient(technique, loss, jnp.ones(2), BATCH, jax.random.key(seed))[0].gradient
    )


def test_a_share_of_the_observations_is_changed():
    """A gradient linear in the observations: share 0 leaves it, 1 turns it, and of a half in
    expectation nothing is left; another key draws others. Targets stay as they are."""
    plain = gradient(make_technique("dr"))
    np.testing.assert_array_equal(gradient(with_share(0.0)), plain)
    np.testing.assert_allclose(gradient(with_share(1.0)), -plain, rtol=1e-6)
    # 1200 samples of deviation 1: their mean has a standard error of .03.
    halves = [gradient(with_share(0.5), seed) for seed in range(2)]
    assert (halves[0] != halves[1]).any()
    for half in halves:
        np.testing.assert_allclose(half, 0, atol=0.15)


def test_an_augmentation_without_a_key_is_refused():
    with pytest.raises(AssertionError, match="draws from a key"):
        variation_gradient(with_share(1.0), lambda *_: None, None, BATCH, None)  # pyright: ignore


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'blur'; allowed: none, turned"):
        gradient(with_share(0.5, "blur"))


def test_lanes_that_differ_in_the_share_are_one_program():
    config = tiny_config("ppo")
    lanes = stack_lanes([(config, with_share(0.25)), (config, with_share(0.5))], [0, 1])
    np.testing.assert_array_equal(lanes.technique.augment_share, [0.25, 0.5])
    assert lanes.technique.augment == "turned"

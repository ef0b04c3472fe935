"""Many vectors play as each of them does alone."""

import jax
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.connectivity import walk
from jaxgen.evaluation.suite import make_suite
from jaxgen.techniques import make_technique
from probe_envs import tiny_config


@pytest.mark.parametrize("num_vectors", [1, 5, 8])
def test_blocks_of_vectors_play_as_each_alone(monkeypatch, num_vectors):
    """In blocks of 4, the last of which is filled up; bit by bit."""
    monkeypatch.setattr(walk, "BLOCK", 4)
    task, config = make_task("cartpole"), tiny_config("ppo")
    algorithm = ALGORITHMS["ppo"](config, make_technique("baseline"), task.spec)
    suite = make_suite(task, jax.random.key(0), (0.0, 1.0), 6)
    keys = jax.random.split(jax.random.key(1), num_vectors)
    init = jax.jit(lambda key: algorithm.params(algorithm.init(key)))
    vectors = np.stack([np.asarray(init(key)) * 30 for key in keys])
    found = walk.returns_of_vectors(task, suite, algorithm.policy, vectors)
    assert found.shape == (num_vectors, 2, 6)
    for returns, vector in zip(found, vectors, strict=True):
        alone = suite.play(algorithm.policy, vector, False, 1).returns
        np.testing.assert_array_equal(returns, alone)
    assert num_vectors == 1 or len({tuple(map(float, each.ravel())) for each in found}) > 1

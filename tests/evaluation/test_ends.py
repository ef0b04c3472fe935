"""Vectors as ends of lines: layers, running moments, and what controls make of them."""

import jax
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.connectivity import ends
from jaxgen.evaluation.connectivity.line import along
from jaxgen.techniques import make_technique
from probe_envs import tiny_config

ALPHAS = [0.0, 0.25, 0.5, 1.0]


def algorithm_of(name: str, **changes: object):
    return ALGORITHMS[name](
        tiny_config(name, **changes), make_technique("baseline"), make_task("cartpole").spec
    )


def two_vectors(algorithm) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0))
    return np.stack([np.asarray(algorithm.params(algorithm.init(key))) for key in keys])


@pytest.mark.parametrize("name", ["ppo", "dqn", "es", "grpo"])
def test_a_permuted_vector_acts_alike_and_is_found_again(name):
    algorithm = algorithm_of(name)
    vector = two_vectors(algorithm)[0]
    odd = tiny_config(name).activation == "tanh"  # pyright: ignore
    other = ends.permuted(algorithm.unravel, vector, odd, seed=3)  # pyright: ignore
    assert np.linalg.norm(vector - other) > 0.5
    obs = jax.random.normal(jax.random.key(1), (50, 4))
    ours, theirs = (algorithm.policy.scores(each, obs) for each in (vector, other))  # pyright: ignore
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    found = ends.aligned_to(algorithm.unravel, vector, other, odd)  # pyright: ignore
    np.testing.assert_array_equal(found, vector)
    again = ends.permuted(algorithm.unravel, vector, odd, seed=3)  # pyright: ignore
    np.testing.assert_array_equal(other, again)


def test_lines_of_layers_change_one_layer_each_and_together_all_of_the_policy():
    """The critic's layers are left out; what is neither stays the first end's."""
    algorithm = algorithm_of("ppo")
    pair = two_vectors(algorithm)
    whole = along(pair[None], ALPHAS)
    changed = {}
    for name, line in ends.layer_lines(algorithm.unravel, pair, ALPHAS):  # pyright: ignore
        differs = (line != pair[0]).any(0)
        np.testing.assert_array_equal(line[:, differs], whole[:, differs])
        np.testing.assert_array_equal(line[0], pair[0])
        changed[name] = differs
    assert list(changed) == ["actor.Dense_0", "actor.Dense_1"]
    assert not (changed["actor.Dense_0"] & changed["actor.Dense_1"]).any()
    places = algorithm.unravel(np.arange(pair.shape[1])).trained  # pyright: ignore
    kernel = places["actor"]["Dense_1"]["kernel"].ravel()
    differs = pair[0, kernel] != pair[1, kernel]
    np.testing.assert_array_equal(changed["actor.Dense_1"][kernel], differs)


def test_moments_on_a_line_are_those_of_both_ends_data_together():
    """Against numpy, of data half from one and half from the other end."""
    algorithm = algorithm_of("ppo", normalize_observations=True)
    pair = two_vectors(algorithm)
    moments = algorithm.unravel(np.arange(pair.shape[1])).statistics  # pyright: ignore
    random = np.random.default_rng(0)
    data = [random.normal(center, 2, (1000, 4)) for center in (-1, 3)]
    for vector, each in zip(pair, data, strict=True):
        vector[moments.mean], vector[moments.variance] = each.mean(0), each.var(0)
    line = ends.whole_line(algorithm.unravel, pair, ALPHAS)
    np.testing.assert_array_equal(line[[0, -1]], pair)
    both = np.concatenate(data)
    np.testing.assert_allclose(line[2, moments.mean], both.mean(0), rtol=1e-5)
    np.testing.assert_allclose(line[2, moments.variance], both.var(0), rtol=1e-5)
    trained = np.ones(pair.shape[1], bool)
    trained[[*moments.mean, *moments.variance]] = False
    np.testing.assert_array_equal(line[:, trained], along(pair[None], ALPHAS)[:, trained])


def test_a_random_direction_is_as_long_and_leads_elsewhere():
    first, second = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)
    other = ends.in_a_random_direction(first, second, seed=1)
    lengths = [np.linalg.norm(each - first) for each in (second, other)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
    cosine = (second - first) @ (other - first) / lengths[0] ** 2
    assert abs(cosine) < 0.2
    assert (ends.in_a_random_direction(first, second, seed=2) != other).all()

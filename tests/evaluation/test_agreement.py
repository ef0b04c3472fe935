"""GAS on gradients with a known agreement, and the probe that measures them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import RolloutShape
from jaxgen.algorithms.gradients import half_gradients
from jaxgen.evaluation.agreement import score_agreement, score_probe
from jaxgen.techniques import make_technique
from jaxgen.training.device import _probed, make_device_program
from jaxgen.training.program import PROBE_LEVELS, stack_lanes
from probe_envs import MATCH, ProbeTask, reference, start, tiny_config, traced, train

NUM_POINTS, SIZE = 16, 400


def gram_of(signal: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    """Dot products ``[P, 2, K, 2, K]`` of signals ``[K, D]`` with independent noise."""
    random = np.random.default_rng(seed)
    estimates = signal + noise * random.normal(size=(NUM_POINTS, 2, *signal.shape))
    return np.einsum("phid,pgjd->phigj", estimates, estimates)


def unit(*rows: int) -> np.ndarray:
    return np.eye(SIZE)[list(rows)]


def test_identical_variations_agree_whatever_the_noise():
    """Noise 3 times as long as the signal: the plain cosine is near .2, the corrected near 1."""
    score = score_probe(gram_of(unit(0, 0, 0), 3 / SIZE**0.5))
    assert score.raw is not None and score.raw < 0.5
    assert score.corrected == pytest.approx(1, abs=0.1)


def test_orthogonal_variations_do_not_agree():
    score = score_probe(gram_of(unit(0, 1, 2), 1 / SIZE**0.5))
    assert score.corrected == pytest.approx(0, abs=0.1) and score.corrected is not None


def test_a_known_cosine_is_recovered():
    """Pairwise cosine .5, noise as long as the signal, so that half of a half is signal."""
    rows = np.linalg.cholesky(0.5 * np.eye(3) + 0.5) @ unit(0, 1, 2)
    score = score_probe(gram_of(rows, 1 / SIZE**0.5))
    assert score.corrected == pytest.approx(0.5, abs=0.08)
    # Both halves together have half of the noise: 1 / (1 + 1/2) of the length is signal.
    assert score.reliability == pytest.approx(2 / 3, abs=0.05)
    assert score.raw == pytest.approx(0.5 * 2 / 3, abs=0.06)


def test_halves_that_share_draws_have_no_corrected_score():
    gram = gram_of(unit(0, 0, 0), 1 / SIZE**0.5)
    shared, apart = score_probe(gram, independent=False), score_probe(gram)
    assert shared[:3] == apart[:3] and shared.corrected is None and shared.reliability is None


def test_pure_noise_has_no_corrected_score():
    score = score_probe(gram_of(np.zeros((3, SIZE)), 1.0))
    assert score.corrected is None
    assert score.reliability == pytest.approx(0, abs=0.05)


def test_opposed_variations_score_zero():
    signal = unit(0, 0, 0) * np.array([[1.0], [-1.0], [-1.0]])
    score = score_probe(gram_of(signal, 0.001))
    assert score.raw == 0 and score.corrected == 0


def test_first_and_last_quarter():
    agreement = np.repeat([0.8, 0.4, 0.0, -0.4], 4)
    score = score_agreement(agreement)
    assert (score.first, score.last) == (pytest.approx(0.8), 0)
    assert score.raw == pytest.approx(0.3)
    assert score.corrected is None and score.reliability is None


@pytest.mark.parametrize("values", [[], [np.nan] * 8])
def test_no_agreement_is_null(values):
    assert score_agreement(np.asarray(values)) == (None,) * 5


def test_a_diverged_probe_is_null():
    score = score_probe(np.full((4, 2, 3, 2, 3), np.nan))
    assert score.raw is None and score.corrected is None and score.reliability is None


def test_halves_are_environments():
    """Samples [T, V, N] of environments 0, 1 and of 2, 3; of one environment, of its two times."""
    time, variation, env = jnp.meshgrid(jnp.arange(3), jnp.arange(2), jnp.arange(4), indexing="ij")

    def loss(params, batch):
        time, variation, env = batch
        features = jnp.stack([(env < 2).sum(), (variation == 0).sum(), (time < 1).sum()])
        return params @ features.astype(jnp.float32), {}

    found = half_gradients(loss, jnp.zeros(3), (time, variation, env))
    np.testing.assert_array_equal(found[0], [[6, 6, 2], [6, 0, 2]])
    np.testing.assert_array_equal(found[1], [[0, 6, 2], [0, 0, 2]])
    single = half_gradients(loss, jnp.zeros(3), tuple(x[..., :1] for x in (time, variation, env)))
    np.testing.assert_array_equal(single[:, 0], [[1, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize("name", ["ppo", "dqn", "es", "grpo"])
def test_the_probe_takes_dot_products_and_changes_nothing(name):
    """A symmetric, positive semidefinite matrix per lane; the carry keeps every bit."""
    ours, program = reference(name), traced(name).program
    before = jax.tree.map(np.array, ours.first)
    gram = np.asarray(program.probe(ours.lanes, ours.first, np.int32(0))["probe_gram"])  # pyright: ignore
    assert gram.shape == (len(ours.lanes.seed), 2, 3, 2, 3) and np.isfinite(gram).all()
    flat = gram.reshape(len(gram), 6, 6)
    np.testing.assert_array_equal(flat, flat.transpose(0, 2, 1))
    assert (np.linalg.eigvalsh(flat.astype(np.float64)) > -1e-4 * np.abs(flat).max()).all()
    assert (np.diagonal(flat, axis1=1, axis2=2) > 0).any()
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, ours.first))
    again = np.asarray(program.probe(ours.lanes, ours.first, np.int32(0))["probe_gram"])  # pyright: ignore
    np.testing.assert_array_equal(gram, again)


def test_no_environment_is_in_both_halves_of_a_probe():
    """Members of a population come in pairs anyway."""
    assert _probed(RolloutShape(1, 8, 1), 200) == RolloutShape(2, 200, 2)
    assert _probed(RolloutShape(12, 8, 2, fresh=True), 200) == RolloutShape(12, 200, 2, fresh=True)


def test_a_training_in_one_environment_is_probed_on_three_variations():
    """With rewards in the scale that its training has found, which the probe does not renew."""
    config = tiny_config(
        "ppo", num_variations=1, num_envs=1, num_steps=8, scale_rewards=True,
        normalize_observations=True,
    )  # fmt: skip
    program = make_device_program(
        ProbeTask(MATCH), ALGORITHMS["ppo"], devices=jax.local_devices()[:1]
    )
    lanes = stack_lanes([(config, make_technique("baseline"))], [0])
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, (0, 4))
    gram = np.asarray(program.probe(lanes, carry, np.int32(4))["probe_gram"])  # pyright: ignore
    assert gram.shape == (1, 2, 3, 2, 3) and np.isfinite(gram).all()
    assert (gram[0, 0, :, 0] != gram[0, 1, :, 1]).any()


def test_the_probe_stays_within_the_training_variations(monkeypatch):
    """Pitfall 19: whatever the arm trains on, it sees levels 0, .25 and .5 and none beyond."""
    assert PROBE_LEVELS == (0.0, 0.25, 0.5)
    asked = []
    original = ProbeTask.training_params

    def spy(self, key, levels):
        asked.append(levels)
        return original(self, key, levels)

    monkeypatch.setattr(ProbeTask, "training_params", spy)
    program = make_device_program(ProbeTask(MATCH), ALGORITHMS["ppo"], chunk=2)
    ours = reference("ppo")
    jax.eval_shape(program.probe, ours.lanes, ours.first, np.int32(0))
    assert asked
    for levels in asked:
        np.testing.assert_array_equal(levels, PROBE_LEVELS)
    assert tiny_config("ppo").num_variations == len(PROBE_LEVELS)

"""GRPO: advantages, minibatches and loss by hand, common starts, and probes with known values."""

import dataclasses
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import envs_jax
from box_envs import BoxTask
from jaxgen.algorithms import grpo
from jaxgen.algorithms.base import PRIMARY, Algorithm
from jaxgen.study.config import replace
from jaxgen.study.presets import preset
from jaxgen.system.errors import BadInput
from jaxgen.techniques import make_technique
from jaxgen.training.rollout import collect, start_episodes
from probe_envs import (
    NUM_ACTIONS,
    PROBES,
    ProbeTask,
    compiled,
    look,
    scores,
    states_after,
    tiny_config,
    with_spy,
)

SPEC = ProbeTask(*PROBES.values()).spec
NAMES = list(PROBES)
NUM_STEPS, NUM_ENVS, GROUP, NUM_GROUPS = 8, 8, 4, 2


def advantages(reward: Any, **options: Any) -> np.ndarray:
    """Of one group: rewards ``[T, G]`` -> ``[T, G]``."""
    usual: dict[str, Any] = {
        "gamma": 1.0, "credit": "step", "baseline": "group", "scale_by_deviation": False,
    }
    given = jnp.asarray(reward, jnp.float32)[..., None]
    return np.asarray(grpo.group_advantages(given, **usual | options))[..., 0]


# Returns 3, 1, 2, 2. The second episode ends at its first step, the third one at its second.
REWARD = [[1, 1, 0, 1], [1, 0, 2, 0], [1, 0, 0, 1]]


def test_an_episode_is_credited_with_its_return():
    """Mean 2: 1, -1, 0, 0 at all steps. The deviation is sqrt(1/2)."""
    expected = np.tile([1.0, -1, 0, 0], (3, 1))
    np.testing.assert_allclose(advantages(REWARD, credit="episode"), expected)
    scaled = advantages(REWARD, credit="episode", scale_by_deviation=True)
    np.testing.assert_allclose(scaled, expected * np.sqrt(2), rtol=1e-6)


def test_a_step_is_credited_with_what_was_left():
    """Left are 3 1 2 2, then 2 0 2 1, then 1 0 0 1: means 2, 5/4 and 1/2."""
    left = np.array([[3.0, 1, 2, 2], [2, 0, 2, 1], [1, 0, 0, 1]])
    expected = left - np.array([[2], [1.25], [0.5]])
    np.testing.assert_allclose(advantages(REWARD), expected)
    deviation = np.sqrt([[0.5], [11 / 16], [0.25]])
    scaled = advantages(REWARD, scale_by_deviation=True)
    np.testing.assert_allclose(scaled, expected / deviation, rtol=1e-5)


def test_what_was_left_is_discounted():
    """At gamma 1/2: 1.75 1 1 1.25, then 1.5 0 2 .5, then 1 0 0 1; an episode has its first."""
    left = np.array([[1.75, 1, 1, 1.25], [1.5, 0, 2, 0.5], [1, 0, 0, 1]])
    expected = left - left.mean(1, keepdims=True)
    np.testing.assert_allclose(advantages(REWARD, gamma=0.5), expected, rtol=1e-6)
    episode = advantages(REWARD, gamma=0.5, credit="episode")
    np.testing.assert_allclose(episode, np.tile(expected[:1], (3, 1)), rtol=1e-6)


@pytest.mark.parametrize("credit", ["episode", "step"])
def test_the_mean_of_the_others_is_the_same_direction(credit):
    """x_i - (sum of the others) / (G - 1) = G / (G - 1) (x_i - mean)."""
    left = np.array([[3.0, 1, 2, 2], [2, 0, 2, 1], [1, 0, 0, 1]])
    worth = np.tile(left[:1], (3, 1)) if credit == "episode" else left
    others = (worth.sum(1, keepdims=True) - worth) / 3
    ours = advantages(REWARD, credit=credit, baseline="others")
    np.testing.assert_allclose(ours, worth - others, rtol=1e-6)
    np.testing.assert_allclose(ours, 4 / 3 * advantages(REWARD, credit=credit), rtol=1e-6)


def test_equal_returns_teach_nothing():
    """Also over a deviation of 0."""
    assert not advantages(np.ones((3, 4)), scale_by_deviation=True).any()


@cache
def make(technique: str = "baseline", **overrides: Any) -> Algorithm:
    return grpo.make_grpo(tiny_config("grpo", **overrides), make_technique(technique), SPEC)


@cache
def made(technique: str = "baseline", **overrides: Any) -> Algorithm:
    return compiled(make(technique, **overrides))


def random_rollout(seed: int = 0) -> grpo.Kept:
    """A rollout [T, V, N] whose samples can be told apart by their observation."""
    random = np.random.default_rng(seed)
    shape = (NUM_STEPS, 3, NUM_ENVS)
    leaves: Any = (
        random.normal(size=(*shape, 3)).astype(np.float32),
        random.integers(0, 2, shape).astype(np.int32),
        random.normal(size=shape).astype(np.float32),
        random.random(shape) < [[0.1], [0.2], [0.4]],
        np.full(shape, np.log(0.5), np.float32),
    )
    return grpo.Kept(*leaves)


def live_of(done: Any) -> np.ndarray:
    """Steps up to the first end, that one too."""
    return np.cumsum(done, 0) - done == 0


def expected_advantages(rollout: grpo.Kept, gamma: float = 0.99) -> np.ndarray:
    """By loops: what was left, less the mean of environments with the same number modulo K, over
    the deviation."""
    live, left = live_of(rollout.done), np.zeros(rollout.reward.shape)
    following = np.zeros(left.shape[1:])
    for time in reversed(range(NUM_STEPS)):
        following = left[time] = rollout.reward[time] * live[time] + gamma * following
    result = np.zeros(left.shape)
    for group in range(NUM_GROUPS):
        members = left[:, :, group::NUM_GROUPS]
        centred = members - members.mean(2, keepdims=True)
        result[:, :, group::NUM_GROUPS] = centred / (members.std(2, keepdims=True) + 1e-8)
    return result


SEEN: list[grpo.Batch] = []


@cache
def spied(**overrides: Any) -> Any:
    """A compiled update, which leaves its minibatches in `SEEN`."""
    return with_spy(make(**overrides).update, SEEN)


def updated(rollout: grpo.Kept, state: Any = None, **overrides: Any) -> tuple[Any, Any, Any]:
    """State before and after an update, and its metrics; minibatches are in `SEEN`."""
    state = made().init(jax.random.key(0)) if state is None else state
    actor = made().prepare(state, jnp.int32(0), jax.random.key(1))
    SEEN.clear()
    after, metrics = spied(**overrides)(
        state, actor, rollout, jnp.int32(0), jax.random.key(2)
    )
    jax.effects_barrier()
    return state, after, metrics


def test_each_live_step_is_used_once_in_a_pass_and_minibatches_are_even():
    """Three variations with episodes of different lengths, in as many updates as the longest ones
    fill minibatches of 8 steps."""
    rollout = random_rollout()
    live = live_of(rollout.done)
    counts = live.sum((0, 2))
    assert len(set(counts)) == 3
    num_updates = -(-counts.max() // 8)
    *_, metrics = updated(rollout, minibatch_size=8)
    assert len(SEEN) == 2 * num_updates == metrics["updates"]
    expected = expected_advantages(rollout)
    for batches in (SEEN[:num_updates], SEEN[num_updates:]):
        for variation in range(3):
            used = [batch.weight[variation] > 0 for batch in batches]
            sizes = [each.sum() for each in used]
            assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 8
            for batch in batches:
                assert batch.weight[variation].mean() == pytest.approx(1, rel=1e-6)
            seen = np.concatenate([b.obs[variation][u] for b, u in zip(batches, used)])
            theirs = np.concatenate([b.advantage[variation][u] for b, u in zip(batches, used)])
            ours, order = rollout.obs[:, variation][live[:, variation]], np.lexsort
            np.testing.assert_array_equal(seen[order(seen.T)], ours[order(ours.T)])
            values = expected[:, variation][live[:, variation]]
            np.testing.assert_allclose(
                theirs[order(seen.T)], values[order(ours.T)], rtol=1e-4, atol=1e-5
            )
    first, second = (np.concatenate([b.obs for b in part], 1) for part in
                     (SEEN[:num_updates], SEEN[num_updates:]))
    assert (first != second).any()


@pytest.mark.parametrize("kl", ["exact", pytest.param("k3", marks=pytest.mark.slow)])
def test_the_loss_by_hand(kl):
    """One update on all steps; the reference is another policy."""
    rollout = random_rollout()
    state = made().init(jax.random.key(0))
    state = state._replace(reference=-state.reference)
    overrides = {"num_epochs": 1, "minibatch_size": 64, "kl_weight": 0.5, "entropy": 0.1, "kl": kl}
    _, _, metrics = updated(rollout, state, **overrides)
    policy = make().policy
    assert policy.scores is not None
    log_p, log_q = (
        special.log_softmax(np.asarray(policy.scores(vector, jnp.asarray(rollout.obs))), -1)
        for vector in (state.optimizer.params, state.reference)
    )
    action: Any = rollout.action
    chosen = lambda logs: np.take_along_axis(logs, action[..., None], -1)[..., 0]  # noqa: E731
    ratio, advantage = np.exp(chosen(log_p) - np.log(0.5)), expected_advantages(rollout)
    surrogate = -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    entropy = -(np.exp(log_p) * log_p).sum(-1)
    log_ratio = chosen(log_q) - chosen(log_p)
    divergence = {
        "exact": (np.exp(log_p) * (log_p - log_q)).sum(-1),
        "k3": np.exp(log_ratio) - 1 - log_ratio,
    }[kl]
    live = live_of(rollout.done)

    def mean(values: np.ndarray) -> float:
        return float(np.mean([values[:, v][live[:, v]].mean() for v in range(3)]))

    assert metrics["reference_kl"] == pytest.approx(mean(divergence), rel=1e-4)
    assert metrics["entropy"] == pytest.approx(mean(entropy), rel=1e-4)
    total = mean(surrogate + 0.5 * divergence - 0.1 * entropy)
    assert metrics["loss"] == pytest.approx(total, rel=1e-4, abs=1e-6)
    assert metrics["reward"] == pytest.approx((rollout.reward * live).sum(0).mean(), rel=1e-5)


def test_the_reference_is_renewed_after_its_interval():
    """Steps are those of first episodes: it is renewed by the first update that begins with 100 of
    them or more."""
    rollout = random_rollout()
    steps, state = int(live_of(rollout.done).sum()), None
    assert 34 <= steps < 100 == tiny_config("grpo").reference_interval
    renewals, ages = [], [0]
    for _ in range(2 * (-(-100 // steps)) + 1):
        before, state, _ = updated(rollout, state, minibatch_size=8)
        renewals.append((state.reference != before.reference).any())
        ages.append(int(state.age))
        kept = before.optimizer.params if renewals[-1] else before.reference
        np.testing.assert_array_equal(state.reference, kept)
    expected = [age >= 100 for age in ages[:-1]]
    # What is the same as before is renewed as well: before the first update nothing differs.
    assert renewals == expected and sum(renewals) == 2
    assert ages[1] == steps


def test_halves_of_groups_are_compared_with_themselves():
    """The gradient of what each half of the environments says alone, as a rollout of its own."""
    rollout, key = random_rollout(), jax.random.key(0)
    state = made().init(key)
    actor = made().prepare(state, jnp.int32(0), key)
    halves = made().half_gradients(state, actor, rollout)[PRIMARY]
    assert halves.shape == (2, 3, state.optimizer.params.size)
    half = {"num_envs": 4, "group_size": 2, "num_epochs": 1, "minibatch_size": 64}
    parts = slice(0, 4), slice(4, 8)
    alone = [jax.tree.map(lambda leaf, part=part: leaf[:, :, part], rollout) for part in parts]
    for ours, theirs in zip(halves, gradients_of(alone, state, half), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def gradients_of(
    rollouts: list[grpo.Kept], state: Any, overrides: dict[str, Any]
) -> list[np.ndarray]:
    """The variations' gradients of an update on each rollout, in one minibatch."""

    def gradients(loss: Any, params: Any, batch: Any) -> Any:
        gradient = jax.vmap(jax.grad(lambda p, b: loss(p, b)[0]), (None, 0))(params, batch)
        leaves = [leaf.reshape(3, -1) for leaf in jax.tree.leaves(gradient)]
        return jnp.concatenate(leaves, axis=1)

    seen: list[Any] = []
    algorithm = make(**overrides)
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    update = with_spy(algorithm.update, seen, gradients)
    for rollout in rollouts:
        jax.block_until_ready(update(state, actor, rollout, jnp.int32(0), jax.random.key(2)))
        jax.effects_barrier()
    return seen


ONE = {"num_epochs": 1, "minibatch_size": 4096}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["gaussian", "beta"])
def test_the_first_ratio_is_one_in_a_box(policy):
    """Actions are kept as they were drawn: with one update nothing differs from the rollout."""
    metrics = one_iteration(BoxTask(), policy=policy, **ONE)
    assert float(metrics["clip_fraction"]) == 0
    assert abs(float(metrics["approx_kl"])) < 1e-6
    assert abs(float(metrics["reference_kl"])) < 1e-6


def test_the_first_ratio_is_one_of_numbered_actions():
    metrics = of_the_observed_start(False)
    assert float(metrics["clip_fraction"]) == 0
    assert abs(float(metrics["approx_kl"])) < 1e-6


def one_iteration(task: Any, **overrides: Any) -> Any:
    config = tiny_config("grpo", **overrides)

    @jax.jit
    def run(key):
        algorithm = grpo.make_grpo(config, make_technique("baseline"), task.spec)
        params = task.training_params(key, jnp.zeros(3))
        state = algorithm.init(key)
        actor = algorithm.prepare(state, jnp.int32(0), key)
        episodes = start_episodes(task.environment, params, algorithm, key)
        _, rollout, _ = collect(task.environment, params, algorithm, actor, episodes, key)
        return algorithm.update(state, actor, rollout, jnp.int32(0), key)[1]

    return run(jax.random.key(1))


@pytest.mark.parametrize("same_start", [True, False])
@pytest.mark.parametrize(
    "name", ["cartpole", "pendulum", pytest.param("minigrid", marks=pytest.mark.slow)]
)
def test_a_group_begins_in_one_state(name, same_start):
    """Bit by bit, where it is asked for; other groups begin elsewhere."""
    task = envs_jax.make_task(name)
    config: Any = replace(
        preset("grpo", name), {"num_envs": 8, "group_size": 4, "same_start": same_start}
    )
    algorithm = grpo.make_grpo(config, make_technique("baseline"), task.spec)

    @jax.jit
    def begin(key: Any) -> Any:
        params = task.training_params(key, jnp.zeros(3))
        return start_episodes(task.environment, params, algorithm, key)

    episodes = begin(jax.random.key(0))
    for leaf in jax.tree.leaves((episodes.obs, episodes.state)):
        leaf = np.asarray(leaf)
        if leaf.shape[:2] == (3, 8):
            groups = leaf.reshape(3, 4, 2, -1)
            assert not same_start or (groups == groups[:, :1]).all()
    obs = np.asarray(episodes.obs).reshape(3, 4, 2, -1)
    same = (obs == obs[:, :1]).all()
    assert same == same_start
    assert (obs[:, :, 0] != obs[:, :, 1]).any()


def test_a_group_begins_in_one_state_of_a_robot():
    """Bit by bit, on the host too, in each iteration; and an untouched group stays together."""
    pytest.importorskip("mujoco")
    task: Any = envs_jax.make_task("hopper")
    algorithm = grpo.make_grpo(
        replace(preset("grpo", "hopper"), {"same_start": True}),  # pyright: ignore
        make_technique("baseline"), task.spec,
    )  # fmt: skip
    shape = algorithm.shape
    assert (shape.num_envs, shape.num_starts, shape.fresh) == (4, 1, True)
    words = np.arange(8, dtype=np.uint32).reshape(2, 4)
    env = task.training(words, np.zeros((2, 3)), shape.num_envs, shape.num_starts)
    for number in range(2):
        obs = env.reset(number)
        assert (obs == obs[:, :, :1]).all() and (obs[:, 0, 0] != obs[:, 1, 0]).any()
        action = np.full((2, 3, 4, 3), 0.1, np.float32)
        after = env.step(action).next_obs
        assert (after == after[:, :, :1]).all()


def test_no_more_steps_than_an_episode_has():
    algorithm = make(num_steps=5000)
    assert algorithm.shape.num_steps == SPEC.max_episode_steps
    assert make(num_steps=3).shape.num_steps == 3


NUM_UPDATES = 150


@cache
def trained() -> Any:
    return states_after(tiny_config("grpo"), NUM_UPDATES)


@pytest.mark.parametrize(
    "probe, state, action", [("match", 0, 0), ("match", 1, 1), ("action", 0, 1)]
)
def test_probes_of_actions(probe, state, action):
    params = trained().optimizer.params[NAMES.index(probe)]
    logits = scores(make(), params, look(PROBES[probe], state))
    assert logits.shape == (NUM_ACTIONS,)
    assert special.softmax(np.asarray(logits))[action] > 0.95


@pytest.mark.parametrize("probe", ["constant", "discounted", "truncated"])
def test_probes_without_a_choice_teach_nothing(probe):
    """Every action is worth the same: the policy stays near an even one."""
    params = trained().optimizer.params[NAMES.index(probe)]
    logits = np.asarray(scores(make(), params, look(PROBES[probe], 0)))
    assert np.abs(logits[0] - logits[1]) < 0.2


def test_the_observed_start_teaches_nothing_within_a_group():
    """The reward is the start that is seen. Groups of one start compare nothing but equals; those
    of any start take luck for merit, and their gradients are no longer zero."""
    assert float(of_the_observed_start(True)["grad_norm"]) < 1e-6
    assert float(of_the_observed_start(False)["grad_norm"]) > 1e-3


@cache
def of_the_observed_start(same_start: bool) -> Any:
    """The metrics of an iteration in which the reward is the start."""
    task = ProbeTask(PROBES["observed"])
    return one_iteration(task, kl_weight=0.0, same_start=same_start, **ONE)


def test_normalisation_sees_live_steps_alone():
    """The moments of what was learned from, as many samples as the rollout has."""
    overrides: dict[str, Any] = {"normalize_observations": True}
    algorithm, rollout = made(**overrides), random_rollout()
    live = live_of(rollout.done)
    dead: Any = np.where(live[..., None], rollout.obs, 1e6)
    rollout = rollout._replace(obs=dead)
    state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
    actor = algorithm.prepare(state, jnp.int32(0), key)
    after, _ = algorithm.update(state, actor, rollout, jnp.int32(0), key)
    vector = np.asarray(after.optimizer.params)
    count, mean, variance = vector[-7], vector[-6:-3], vector[-3:]
    assert count == pytest.approx(live.size, rel=1e-3)
    seen = rollout.obs[live]
    np.testing.assert_allclose(mean, seen.mean(0), atol=0.05)
    np.testing.assert_allclose(variance, seen.var(0), rtol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 3}, "group_size = 3 is not allowed; use an even divisor of num_envs = 8"),
        ({"group_size": 16}, "group_size = 16 is not allowed; use an even divisor of num_envs = 8"),
        ({"group_size": 1}, "group_size = 1 is not allowed; use an even divisor of num_envs = 8"),
        ({"reference_interval": 0}, "reference_interval = 0 is not allowed; use a positive whole"),
        ({"credit": "both"}, "credit = 'both' is not allowed; use episode or step"),
        ({"baseline": "critic"}, "baseline = 'critic' is not allowed; use group or others"),
        ({"kl": "k1"}, "kl = 'k1' is not allowed; use exact or k3"),
        ({"minibatch_size": 0}, "minibatch_size = 0 is not allowed; use a positive whole number"),
        ({"gamma": 1.5}, "gamma = 1.5 is not allowed; use a share in"),
        ({"policy": "normal"}, "policy = 'normal' is not allowed; use gaussian or beta"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(tiny_config("grpo"), **changes).validate()


def test_a_beta_policy_needs_a_box():
    with pytest.raises(BadInput, match="policy = 'beta' is not allowed where actions are numbered"):
        make(policy="beta")

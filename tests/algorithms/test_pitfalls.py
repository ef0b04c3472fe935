"""Known ways to get generalisation results wrong: where each is tested, and what fits nowhere else.

`COVERED` lists the tests of each pitfall, by the number that it has in the project's notes:

1 a level frozen as a constant of the compiled program; 2 random play with a good score;
3 the next episode's first observation in the last target; 4 truncation and termination confused;
5 short episodes counted more often; 6 checkpoints chosen by shifted results; 7 keys or layouts
shared by training and evaluation; 8 evaluation that changes something, or depends on its batch;
9 environment steps counted differently; 10 the algebra of agreement; 11 dr as gar with equal
weights; 12 aliases counted as evidence; 13 weight decay; 14 scores of known curves; 15 failed runs
hidden by averages; 16 greedy and sampled returns mixed; 17 the tables of levels and solvable
layouts; 18 statistics against an independent implementation; 19 training that sees levels of the
evaluation out of distribution; 20 observations that reveal the level; 21 chunks, devices and
progress that change results; 23 evaluation that never ends.
(22, the layout of images, has no environment yet.)
"""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import make_task
from envs_jax.gridworld import layouts_of
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.episodes import make_episodes
from jaxgen.study.config import SHIFT_LEVELS, replace
from jaxgen.study.presets import preset
from jaxgen.techniques import SUITES, make_technique
from jaxgen.training.device import make_device_program
from jaxgen.training.keys import evaluation_key
from jaxgen.training.program import stack_lanes
from jaxgen.training.rollout import collect, start_episodes

TESTS = Path(__file__).parents[1]
COVERED = {
    1: [
        "test_oracles.test_pitfall_1_returns_of_scripted_policies",
        "test_oracles.test_pitfall_1_levels_asked_for_by_themselves",
        "test_cartpole.test_returns_of_known_policies",
        "test_gridworld.test_one_trace_serves_every_level",
        "test_pitfalls.test_pitfalls_1_and_3_every_transition_follows_its_levels_dynamics",
        "test_pitfalls.test_pitfalls_1_and_19_arms_train_on_their_levels",
    ],
    2: [
        "test_oracles.test_pitfall_2_random_play_has_no_retention_and_a_flagged_literal_score",
        "test_scores.test_random_play_on_cartpole_has_a_flagged_literal_score_and_no_retention",
        "test_evaluation.test_pitfall_2_a_policy_at_the_floor_has_null_scores",
    ],
    3: [
        "test_rollout.test_pitfall_3_the_next_episodes_first_observation_does_not_leak",
        "test_ppo.test_pitfall_3_targets_do_not_see_the_next_episode",
        "test_environments.test_step_resets_finished_episodes_and_keeps_the_true_successor",
        "test_pitfalls.test_pitfalls_1_and_3_every_transition_follows_its_levels_dynamics",
    ],
    4: [
        "test_ops.test_truncation_bootstraps_and_termination_does_not",
        "test_rollout.test_termination_and_truncation_are_told_apart",
        "test_ppo.test_pitfall_4_truncation_bootstraps",
        "test_ppo.test_pitfall_4_termination_does_not",
        "test_dqn.test_pitfall_4_truncation_bootstraps",
        "test_dqn.test_pitfall_4_termination_does_not",
        "test_dqn.test_td_target_bootstraps_unless_terminated",
    ],
    5: ["test_episodes.test_pitfall_5_short_episodes_weigh_no_more_than_long_ones"],
    6: [
        "test_analysis.test_permuting_all_results_at_shifted_levels_changes_no_choice",
        "test_analysis.test_best_run_has_the_highest_greedy_return_at_level_zero",
    ],
    7: [
        "test_training.test_streams_of_keys_are_disjoint",
        "test_pitfalls.test_pitfall_7_overlap_of_layouts_is_measured",
        "test_pitfalls.test_pitfall_7_evaluation_layouts_are_not_those_of_training",
        "test_evaluation.test_pitfall_7_the_share_of_layouts_that_training_saw",
        "test_analysis.test_overlap_of_layouts_is_reported_where_there_are_layouts",
    ],
    8: [
        "test_episodes.test_pitfall_8_evaluating_changes_nothing",
        "test_episodes.test_pitfall_8_an_episode_does_not_depend_on_its_batch",
        "test_api.test_pitfall_8_an_episode_does_not_depend_on_the_levels_beside_it",
        "test_api.test_pitfall_8_evaluation_changes_nothing",
    ],
    9: [
        "test_training.test_every_arm_counts_the_same_steps",
        "test_es.test_a_lane_rests_from_the_generation_that_reaches_its_budget",
        "test_es.test_only_the_first_episode_of_a_member_counts",
        "test_config.test_whole_iterations_fit_the_budget",
        "test_evaluation.test_pitfall_9_steps_requested_and_actual_are_both_kept",
    ],
    10: [
        "test_techniques.test_gar_is_the_sum_weighed_by_agreement_with_the_mean",
        "test_techniques.test_fact_1_weights_vanish_only_with_the_mean",
        "test_techniques.test_fact_2_the_step_never_opposes_the_mean",
        "test_techniques.test_fact_3_equal_cosines_give_the_mean_direction",
        "test_techniques.test_fact_4_independent_noise_agrees_by_577",
        "test_techniques.test_fact_5_orthogonal_gradients_keep_almost_the_mean_direction",
        "test_techniques.test_fact_6_without_conflict_the_mean_weight_is_at_least_a_third",
        "test_techniques.test_fact_7_one_variation_is_left_alone",
        "test_techniques.test_all_weights_zero_skips_the_step",
    ],
    11: ["test_techniques.test_dr_equals_gar_with_weights_one_third"],
    12: [
        "test_study.test_es_arms_with_gar_are_aliases",
        "test_api.test_pitfall_12_gar_of_es_is_its_baseline",
        "test_analysis.test_alias_enters_no_difference",
        "test_analysis.test_best_run_is_no_alias_and_a_full_run_before_a_quick_one",
    ],
    13: [
        "test_techniques.test_pitfall_13_decay_shrinks_by_learning_rate_times_decay",
        "test_techniques.test_pitfall_13_without_decay_nothing_moves",
        "test_es.test_equal_fitness_under_reg_only_decays",
        "test_evaluation.test_pitfall_13_total_decay",
    ],
    14: [
        "test_scores.test_table_of_curves",
        "test_scores.test_negative_reference_of_a_policy_that_learned_voids_only_the_literal_ratio",
    ],
    15: [
        "test_training.test_a_diverged_lane_leaves_the_others_alone",
        "test_evaluation.test_pitfall_15_a_diverged_run_has_no_evaluation",
        "test_evaluation.test_pitfall_15_a_nan_return_is_an_error",
        "test_analysis.test_diverged_seed_is_counted_and_named_and_never_averaged_away",
        "test_analysis.test_arm_of_which_every_seed_diverged_reads_failed",
        "test_api.test_pitfall_15_a_diverged_training_has_no_returns",
    ],
    16: [
        "test_analysis.test_greedy_and_sampled_returns_never_share_a_table",
        "test_evaluation.test_pitfall_16_modes_are_apart",
        "test_evaluation.test_pitfall_16_each_mode_is_valid_by_its_own_errors",
        "test_api.test_scores_of_each_mode_are_its_own",
    ],
    17: [
        "test_cartpole.test_dynamics_of_the_levels_are_frozen",
        "test_gridworld.test_shapes_of_the_levels_are_frozen",
        "test_layouts.test_every_layout_is_solvable",
    ],
    18: [
        "test_scores.test_integral_agrees_with_scipy_on_uneven_levels",
        "test_ops.test_centred_ranks_agree_with_scipy",
    ],
    19: ["test_pitfalls.test_pitfalls_1_and_19_arms_train_on_their_levels"],
    20: ["test_pitfalls.test_pitfall_20_no_single_feature_reveals_the_level"],
    21: [
        "test_training.test_where_a_call_ends_changes_no_bit",
        "test_training.test_one_device_and_short_chunks_change_no_bit",
        "test_training.test_the_place_of_a_lane_does_not_matter",
    ],
    23: [
        "test_episodes.test_evaluation_always_ends",
        "test_episodes.test_a_finished_episode_earns_nothing_more",
        "test_evaluation.test_pitfall_23_finished_episodes_earn_nothing_while_others_run",
        "test_episodes.test_a_truncated_episode_ends_too",
        "test_api.test_a_saved_agent_comes_back",
    ],
}

CARTPOLE, GRID = make_task("cartpole"), make_task("minigrid", bank_size=1024)


@pytest.mark.parametrize("pitfall", COVERED)
def test_every_pitfall_has_its_tests(pitfall):
    """A test that is renamed or removed is missed here."""
    for name in COVERED[pitfall]:
        module, function = name.split(".")
        tree = ast.parse(next(TESTS.rglob(f"{module}.py")).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in names, f"{name} is gone: pitfall {pitfall} may be untested"


def euler_step(obs: np.ndarray, action: np.ndarray, level: float) -> np.ndarray:
    """CartPole's equations of motion in numpy (Barto, Sutton and Anderson 1983), obs [..., 4]."""
    gravity, length, mass = 9.8 + 4.9 * level, 0.5 + 0.5 * level, 1.1 + level
    x, x_dot, theta, theta_dot = np.moveaxis(obs.astype(np.float64), -1, 0)
    sin, cos = np.sin(theta), np.cos(theta)
    push = (np.where(action == 1, 10, -10) + 0.1 * length * theta_dot**2 * sin) / mass
    angular = (gravity * sin - cos * push) / (length * (4 / 3 - 0.1 * cos**2 / mass))
    linear = push - 0.1 * length * angular * cos / mass
    rates = np.stack([x_dot, linear, theta_dot, angular], -1)
    return obs + 0.02 * rates


def test_pitfalls_1_and_3_every_transition_follows_its_levels_dynamics():
    """CartPole shows its whole state, so that each of 3 x 8 x 128 transitions is computed again,
    at the level of its variation: also the last ones of episodes, whose true successor is beyond
    the limits, where a new episode starts near the middle."""
    config = replace(preset("dqn", "cartpole"), {"num_envs": 8, "num_steps": 128})
    algorithm = ALGORITHMS["dqn"](config, make_technique("gar"), CARTPOLE.spec)
    levels = jnp.array(make_technique("gar").levels)
    params = CARTPOLE.training_params(jax.random.key(0), levels)

    @jax.jit
    def run(key):
        episodes = start_episodes(CARTPOLE.environment, params, algorithm, key)
        # Iteration 0 acts at random: epsilon is 1.
        actor = algorithm.prepare(algorithm.init(key), jnp.int32(0), key)
        return collect(CARTPOLE.environment, params, algorithm, actor, episodes, key)[1]

    rollout = jax.tree.map(np.asarray, run(jax.random.key(1)))
    obs, after = rollout.obs, rollout.next_obs
    for variation, level in enumerate((0.0, 0.25, 0.5)):
        expected = euler_step(obs[:, variation], rollout.action[:, variation], level)
        np.testing.assert_allclose(after[:, variation], expected, atol=1e-5)
    done = rollout.terminated | rollout.truncated
    assert done.sum() > 50
    fallen = (np.abs(after[..., 2]) > np.float32(np.radians(12))) | (np.abs(after[..., 0]) > 2.4)
    np.testing.assert_array_equal(rollout.terminated, fallen)
    follows = (obs[1:] == after[:-1]).all(-1)
    np.testing.assert_array_equal(follows, ~done[:-1])
    assert (np.abs(obs[1:][done[:-1]]) <= 0.05).all()


@pytest.fixture(scope="module")
def grid_lanes():
    """The program of the grid with a lane for every arm and two more seeds, and its layouts."""
    program = make_device_program(GRID, ALGORITHMS["ppo"])
    names = [*SUITES["controls"], "baseline", "gar"]
    config = preset("ppo", "minigrid")
    seeds = [0] * len(SUITES["controls"]) + [1, 1]
    lanes = stack_lanes([(config, make_technique(name)) for name in names], seeds)
    return program, names, lanes, program.world.content(lanes, 0)


def prints_of(params) -> jax.Array:
    prints = GRID.fingerprints(params)
    assert prints is not None
    return prints


def test_pitfalls_1_and_19_arms_train_on_their_levels(grid_lanes):
    """What the environment is given in training, not what was asked for: baseline and reg at level
    0 thrice, the others at 0, .25 and .5, and no arm beyond."""
    _, names, lanes, content = grid_lanes
    sizes = np.asarray(layouts_of(content).size)
    cartpole = make_device_program(CARTPOLE, ALGORITHMS["ppo"]).world.content(lanes, 0)
    for lane, name in enumerate(names):
        single = name in ("baseline", "reg")
        expected = [6, 6, 6] if single else [6, 7, 9]
        assert (sizes[lane] == np.array(expected)[:, None]).all(), name
        gravity = [9.8, 9.8, 9.8] if single else [9.8, 11.025, 12.25]
        np.testing.assert_allclose(cartpole.gravity[lane], gravity, rtol=1e-6)
    assert sizes.max() < 10 and cartpole.gravity.max() < 12.5


def test_pitfall_7_overlap_of_layouts_is_measured(grid_lanes):
    """By the layouts as they are, not by their fingerprints: of lane 0's own bank everything is
    found, of fresh layouts what numpy finds among all cells, starts and goals."""
    program, names, lanes, content = grid_lanes
    own = program.world.overlap(lanes, content, prints_of(content)[0])
    assert own[0].all()
    assert not own[names.index("gar"), 1].all()
    params, _ = GRID.evaluation(jax.random.key(5), jnp.zeros(1), 500)
    found = np.asarray(program.world.overlap(lanes, content, prints_of(params)))[:, 0]

    def rows(bank, *index):
        table, origin = np.asarray(bank.table)[index], np.asarray(bank.origin)[index]
        flat = np.concatenate([table.reshape(*origin.shape, -1), origin[..., None]], -1)
        return [row.tobytes() for row in flat.reshape(-1, flat.shape[-1])]

    for lane in (0, names.index("gar")):
        seen = set(rows(content, lane))
        np.testing.assert_array_equal(found[lane], [row in seen for row in rows(params, 0)])
        assert 0 < found[lane].sum() < 40


def test_pitfall_7_evaluation_layouts_are_not_those_of_training(grid_lanes):
    """The same key would make the evaluation's layouts the first of the bank. At level 0 there are
    some 90 000 layouts, so that 1 to 4 % of them are in the bank by chance; of the others none."""
    program, names, lanes, content = grid_lanes
    params = make_episodes(GRID, evaluation_key(0), SHIFT_LEVELS, 500).params
    overlap = np.asarray(program.world.overlap(lanes, content, prints_of(params))).mean(-1)
    assert (overlap[:, 0] < 0.06).all()
    assert (overlap[:, 1:] < 0.01).all()
    # Another seed trains on other layouts.
    other = np.asarray(program.world.overlap(lanes, content, prints_of(content)[-2])).mean(-1)
    assert names[0] == names[-2] == "baseline"
    assert (other[-2] == 1).all() and (other[0] < 0.06).all()


@pytest.mark.parametrize("task", [CARTPOLE, GRID], ids=["cartpole", "minigrid"])
def test_pitfall_20_no_single_feature_reveals_the_level(task):
    """First observations of 500 episodes a level have one shape, and the values of each single
    feature at two levels overlap by more than a fifth: nothing in there states the level."""
    params, words = task.evaluation(jax.random.key(3), jnp.array(SHIFT_LEVELS), 500)
    first = jax.jit(lambda *args: jax.vmap(task.environment.reset_from)(*args)[0])
    obs = np.asarray(first(words, params), np.float64)
    assert obs.shape == (5, 500, *task.spec.obs_shape)
    for feature in range(obs.shape[-1]):
        values = obs[..., feature]
        edges = np.linspace(values.min() - 1e-6, values.max() + 1e-6, 6)
        shares = np.stack([np.histogram(level, edges)[0] / 500 for level in values])
        overlap = np.minimum(shares[:, None], shares[None]).sum(-1)
        assert overlap.min() > 0.2, f"feature {feature} tells levels apart"

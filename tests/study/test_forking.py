"""Studies of connectivity as data: which runs there are, and what is refused before any compute."""

import pytest

from jaxgen.study.fork import Fork
from jaxgen.study.kinds.connect import POINTS, End, Forking, forks_of, pairs_of, parents_of
from jaxgen.study.product import make_study
from jaxgen.system.errors import BadInput


def study(algorithm: str = "sac", environment: str = "pendulum", seeds: int = 2):
    return make_study([environment], [algorithm], ["baseline", "dr"], list(range(seeds)))


def test_forks_are_a_group_for_each_point_and_replay():
    """Two arms, forks 1 and 2 of each; parents keep a snapshot at every point but the start."""
    forking = Forking((0.0, 0.5), ("copy", "split"))
    parents = parents_of(study(), forking)
    (parent_group,) = parents.groups
    assert all(spec.snapshots == (0.5,) and spec.start is None for spec in parent_group.specs)
    forks = forks_of(parents, forking)
    assert len(forks.groups) == 4 and forks.num_runs == 4 * 2 * 2 * 2
    group = forks.groups[3]
    assert [spec.start for spec in group.specs] == [
        Fork(spec.name, 0.5, number, "split")
        for spec in parent_group.specs for number in (1, 2)
    ]  # fmt: skip
    assert group.seeds == (0, 1) and not any(spec.snapshots for spec in group.specs)
    assert len({spec.name for each in forks.groups for spec in each.specs}) == 16


def test_pairs_are_forks_one_and_two_then_three_and_four():
    forking = Forking((0.1,), ("fresh",), pairs=2)
    parents = parents_of(study(seeds=1), forking)
    pairs = pairs_of(parents, forking)
    runs = {spec.name: spec for group in forks_of(parents, forking).groups for spec in group.specs}
    assert len(pairs) == 2 * 2
    for pair, numbers in zip(pairs, [(1, 2), (3, 4)] * 2, strict=True):
        starts = [runs[end.run].start for end in (pair.first, pair.second)]
        assert tuple(start.number for start in starts if start) == numbers
        assert (pair.first.seed, pair.first.share) == (0, 1.0)
    assert [pair.name for pair in pairs[:2]] == ["fork_0.1_fresh", "fork_0.1_fresh_pair2"]


def starts_of(algorithm: str, environment: str, *controls: str) -> dict[str, list[Fork]]:
    """What the forks of each control begin with, at 0 and .5."""
    forking = Forking((0.0, 0.5), controls=controls)
    parents = parents_of(study(algorithm, environment), forking)
    runs = {spec.name: spec for group in forks_of(parents, forking).groups for spec in group.specs}
    found: dict[str, list[Fork]] = {name: [] for name in ("copy", *controls)}
    for pair in pairs_of(parents, forking):
        if pair.seed == 0 and pair.parent.technique == "baseline" and pair.first.run in runs:
            for end in (pair.first, pair.second):
                start = runs[end.run].start
                assert start is not None
                found[pair.strategy].append(start)
    return found


def test_controls_leave_out_a_part_of_the_noise():
    """Each in both forks of a pair; nothing is perturbed at the start, where nothing is trained."""
    names = ("identical", "order", "data", "perturbed")
    of_sac, of_ppo = starts_of("sac", "pendulum", *names), starts_of("ppo", "cartpole", *names)
    for found in (of_sac, of_ppo):
        assert [(start.share, start.number) for start in found["copy"]] == [
            (0.0, 1), (0.0, 2), (0.5, 1), (0.5, 2),
        ]  # fmt: skip
        assert [start.noise for start in found["identical"]] == ["none"] * 4
        assert [start.noise for start in found["data"]] == ["data"] * 4
        lengths = [(start.share, start.noise, start.perturbation) for start in found["perturbed"]]
        assert lengths == [(0.5, "none", 1e-4)] * 2
    assert [(start.replay, start.noise) for start in of_sac["order"]] == [("tandem", "all")] * 4
    assert [(start.replay, start.noise) for start in of_ppo["order"]] == [("copy", "order")] * 4


def test_some_controls_join_ends_that_are_no_forks_of_their_own():
    forking = Forking((0.0, 0.5), controls=("independent", "own-run", "direction", "permuted"))
    parents = parents_of(study(seeds=3), forking)
    pairs = [pair for pair in pairs_of(parents, forking) if pair.seed == 2]
    spec = parents.groups[0].specs[0]
    by_control = {
        name: [pair for pair in pairs if pair.strategy == name and pair.parent == spec]
        for name in ("copy", *forking.controls)
    }
    (independent,), (permuted,) = by_control["independent"], by_control["permuted"]
    assert (independent.first, independent.second) == (End(spec.name, 2), End(spec.name, 0))
    assert permuted.first == permuted.second == End(spec.name, 2) and permuted.point is None
    (own,) = by_control["own-run"]
    assert (own.point, own.first, own.second) == (0.5, End(spec.name, 2, 0.5), End(spec.name, 2))
    assert [pair._replace(strategy="copy") for pair in by_control["direction"]] == (
        by_control["copy"]
    )
    names = [pair.name for pair in pairs if pair.parent == spec]
    assert len(names) == len(set(names)) == 2 + 1 + 1 + 2 + 1
    assert len(forks_of(parents, forking).groups) == 2


def test_forks_stop_at_the_horizon():
    forking = Forking((0.0, 0.5), horizon=1500)
    forks = forks_of(parents_of(study(), forking), forking)
    for group in forks.groups:
        assert all(1500 <= spec.own_steps < 1500 + 3 for spec in group.specs)


def test_the_specified_points_are_the_usual_ones():
    assert parents_of(study(), Forking()).groups[0].specs[0].snapshots == POINTS


@pytest.mark.parametrize(
    ("forking", "message"),
    [
        (Forking((1.0,)), r"fork point 1.0 is not allowed; use shares in \[0, 1\)"),
        (Forking((-0.1,)), "fork point -0.1 is not allowed"),
        (Forking((0.5, 0.5)), "fork point 0.5 is given twice"),
        (Forking(()), "no fork points given"),
        (Forking((0.5,), ("half",)), "replay 'half' is not allowed; use one of copy, fresh"),
        (Forking((0.5,), ("copy", "copy")), "replay 'copy' is given twice"),
        (Forking((0.5,), ()), "no replay given"),
        (Forking((0.5,), pairs=0), "0 pairs are not allowed"),
        (Forking((0.5, 0.500001)), "0.5 and 0.500001 of sac_pendulum_baseline are the same iter"),
        (Forking((0.99999,)), "0.99999 of sac_pendulum_baseline leaves 0 env steps of .*, not any"),
        (Forking((0.9,), horizon=9000), "leaves .* not the 9000 env steps of the horizon"),
        (Forking((0.5,), horizon=-1), "horizon -1 is not allowed"),
        (Forking((0.5,), controls=("same",)), "control 'same' is not allowed; use one of identi"),
        (Forking((0.5,), controls=("data", "data")), "control 'data' is given twice"),
        (Forking((0.5,), ("tandem",)), "replay 'tandem' is not allowed; use one of copy, fresh"),
    ],
)
def test_what_cannot_be_forked_is_refused(forking, message):
    with pytest.raises(BadInput, match=message):
        parents_of(study(), forking)


@pytest.mark.parametrize(("algorithm", "replay"), [("ppo", "fresh"), ("es", "shared")])
def test_a_replay_does_not_apply_without_one(algorithm, replay):
    with pytest.raises(BadInput, match=f"{replay!r} does not apply to {algorithm}.*use copy"):
        parents_of(study(algorithm, "cartpole"), Forking((0.5,), ("copy", replay)))


def test_two_parents_are_needed_to_join_two():
    with pytest.raises(BadInput, match="'independent' joins two parents; use two seeds or more"):
        parents_of(study(seeds=1), Forking((0.5,), controls=("independent",)))

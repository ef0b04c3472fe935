"""Studies of connectivity as data: which runs there are, and what is refused before any compute."""

import pytest

from jaxgen.study.connect import POINTS, Forking, forks_of, pairs_of, parents_of
from jaxgen.study.product import make_study
from jaxgen.study.spec import Fork
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
    names = {spec.name for group in forks_of(parents, forking).groups for spec in group.specs}
    assert len(pairs) == 2 * 2
    for pair, numbers in zip(pairs, [(1, 2), (3, 4)] * 2, strict=True):
        starts = pair.first.start, pair.second.start
        assert all(starts) and tuple(start.number for start in starts if start) == numbers
        assert {pair.first.name, pair.second.name} <= names
    assert [pair.name for pair in pairs[:2]] == ["fork_0.1_fresh", "fork_0.1_fresh_pair2"]


def test_the_specified_points_are_the_usual_ones():
    assert parents_of(study(), Forking()).groups[0].specs[0].snapshots == POINTS


@pytest.mark.parametrize(
    ("forking", "message"),
    [
        (Forking((1.0,)), r"fork point 1.0 is not allowed; use shares in \[0, 1\)"),
        (Forking((-0.1,)), "fork point -0.1 is not allowed"),
        (Forking((0.5, 0.5)), "fork point 0.5 is given twice"),
        (Forking(()), "no fork points given"),
        (Forking((0.5,), ("half",)), "replay 'half' is not allowed; use one of copy, fresh"),  # pyright: ignore
        (Forking((0.5,), ("copy", "copy")), "replay 'copy' is given twice"),
        (Forking((0.5,), ()), "no replay given"),
        (Forking((0.5,), pairs=0), "0 pairs are not allowed"),
        (Forking((0.5, 0.500001)), "0.5 and 0.500001 of sac_pendulum_baseline are the same iter"),
        (Forking((0.99999,)), "0.99999 of sac_pendulum_baseline leaves none of its 6666"),
    ],
)
def test_what_cannot_be_forked_is_refused(forking, message):
    with pytest.raises(BadInput, match=message):
        parents_of(study(), forking)


@pytest.mark.parametrize(("algorithm", "replay"), [("ppo", "fresh"), ("es", "shared")])
def test_a_replay_does_not_apply_without_one(algorithm, replay):
    with pytest.raises(BadInput, match=f"{replay!r} does not apply to {algorithm}.*use copy"):
        parents_of(study(algorithm, "cartpole"), Forking((0.5,), ("copy", replay)))

"""Seeds of another program: nothing is added to them unsaid."""

import pytest

from jaxgen.results import code
from jaxgen.results.code import check_code, code_of
from jaxgen.results.store import open_store
from jaxgen.study.product import make_study
from jaxgen.system import checkpoint
from jaxgen.system.code import CORE

SEEDS = [0, 1]


def study(*seeds: int):
    return make_study(["cartpole"], ["ppo"], ["dr"], list(seeds or SEEDS))


def spec():
    return study().groups[0].specs[0]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path)


def write(store, seed: int, **changes):
    store.write_spec(spec().name, spec().to_dict())
    provenance = {"seconds": {}, "code": code_of(spec()) | changes}
    store.write_result(spec().name, seed, {}, {}, provenance)


@pytest.mark.parametrize("part", ["environment", "algorithm", "core"])
def test_a_cell_that_would_mix_two_programs_is_refused(store, part):
    write(store, 0, **{part: "other"})
    message = f"seed 0 was made by another version of its {part}; add --fresh .* --accept"
    with pytest.raises(ValueError, match=message) as caught:
        check_code(study(), store)
    assert spec().name in str(caught.value)


def test_seeds_of_todays_code_are_added_to(store):
    write(store, 0)
    check_code(study(), store)
    assert code_of(spec())["core"] == CORE
    assert all(code_of(spec()).values())


def test_a_cell_that_is_whole_is_left_alone(store):
    for seed in SEEDS:
        write(store, seed, algorithm="other")
    check_code(study(), store)
    with pytest.raises(ValueError, match="another version of its algorithm"):
        check_code(study(0, 1, 2), store)


def test_seeds_of_another_study_count_too(store):
    write(store, 7, environment="other")
    with pytest.raises(ValueError, match="seed 7"):
        check_code(study(), store)


def test_runs_that_do_not_say_their_code_are_gone_on_with(store):
    store.write_spec(spec().name, spec().to_dict())
    store.write_result(spec().name, 0, {}, {}, {"seconds": {}})
    check_code(study(), store)
    assert code.changed({"algorithm": None}, {"algorithm": "a"}) is None


def test_a_checkpoint_of_another_program_is_not_gone_on_from(store):
    meta = {"lanes": [[spec().name, 1]], "code": code_of(spec()) | {"algorithm": "other"}}
    checkpoint.save(store.root / "checkpoints" / "x", {}, meta)
    with pytest.raises(ValueError, match="seed 1 was made by another version of its algorithm"):
        check_code(study(), store)

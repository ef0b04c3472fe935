"""The examples of plug-ins: their environments, algorithm and technique train as any other."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen import load_agent, load_plugin, preset, register_network, replace
from jaxgen.algorithms import ALGORITHMS
from jaxgen.nn import networks
from jaxgen.results.read import read_records
from jaxgen.results.store import open_store
from jaxgen.study import plugins
from jaxgen.study.cards import ALGORITHM_CARDS, ENVIRONMENT_CARDS
from jaxgen.study.networks import NETWORKS
from jaxgen.techniques import COMPONENTS, Technique
from small_runs import run, run_matrix, small_study

FILES = sorted((Path(__file__).parents[2] / "experiments" / "examples").glob("*.py"))
NAMES = [file.stem for file in FILES]


@pytest.fixture
def examples(monkeypatch):
    """The modules, loaded as ``--plugin`` loads them; forgotten afterwards."""
    registries: list[Any] = [ENVIRONMENT_CARDS, ALGORITHM_CARDS, COMPONENTS, NETWORKS]
    before = [dict(registry) for registry in registries]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_loaded", {})
    boat = FILES[NAMES.index("boat")]
    yield {file.stem: load_plugin(file) for file in (boat, *FILES)}
    for name in NAMES:
        del sys.modules[name]
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm, environment, steps",
    [("a2c", "boat", 3_840), ("es", "tug", 30_000)],
)
def test_they_train_and_are_scored(examples, tmp_path, algorithm, environment, steps):
    arms = ["baseline", "dr-edge"]
    run(small_study(algorithm, environment, arms, [0], total_steps=steps), tmp_path)
    records, damage = read_records(open_store(tmp_path))
    assert damage == [] and {record.arm for record in records} == set(arms)
    for record in records:
        assert record.result["references"]["ceiling"] == [100] * 5
        assert {record.provenance["code"][part] for part in ("environment", "algorithm")} - {None}
    assert load_agent(next(tmp_path.glob("runs/*/seed_0000"))).spec.name == environment


@pytest.mark.slow
def test_a_network_of_ones_own_serves_every_algorithm(examples, tmp_path):
    """In a study beside the usual one, where its code is in the provenance; and by shapes."""
    arms = ["baseline", "baseline@network=residual"]
    run(small_study("ppo", "cartpole", arms, [0], total_steps=1_536), tmp_path)
    for record in read_records(open_store(tmp_path))[0]:
        own = record.arm.endswith("residual")
        assert ("network" in record.provenance["code"]) == own
        folder = tmp_path / "runs" / record.name / "seed_0000"
        assert load_agent(folder).config.network == ("residual" if own else "mlp")
    for algorithm in ("dqn", "es"):
        for environment in ("cartpole", "minigrid"):
            config = replace(preset(algorithm, environment), {"network": "residual"})
            config.validate()
            spec = make_task(environment).spec
            made = ALGORITHMS[algorithm](config, Technique(), spec)
            state = jax.eval_shape(made.init, jax.random.key(0))
            assert made.in_turn and all(leaf.size for leaf in jax.tree.leaves(state))


def test_what_makes_no_network_is_refused(examples):
    register_network("nothing", "builtins:list")
    spec = make_task("cartpole").spec
    with pytest.raises(ValueError, match=r"'nothing': builtins:list gives a list; it must be a"):
        networks.single(spec, 2, (8,), network="nothing", encoding="raw", head_scale=1.0)
    with pytest.raises(ValueError, match="network 'residual' is registered already"):
        register_network("residual", "other:Residual")
    with pytest.raises(ValueError, match="network = 'lstm' is not allowed; use one of mlp, nat.*"):
        replace(preset("ppo", "cartpole"), {"network": "lstm"}).validate()


def test_a_boat_that_is_not_steered_is_swept_away_and_one_that_is_steered_holds(examples):
    """At level 1: by .8 t^2 / 2 from the middle to the bank in 1.6 s, 16 steps of .1 s; the rudder
    is stronger than the current."""
    channel, current = examples["boat"].Channel(), np.float32(0.8)
    words = np.array([2**31], np.uint32)

    def steps_lived(steer):
        (side, speed), state = channel.reset_from(words, current)
        for step in range(1, 101):
            obs, state, _, ended, _ = channel.advance(state, steer(side, speed), current)
            side, speed = map(float, obs)
            if ended:
                return step
        return 100

    assert steps_lived(lambda side, speed: 1) == 16
    assert steps_lived(lambda side, speed: 0 if side + speed > 0 else 2) == 100


def test_they_are_as_short_as_the_pages_say():
    page = (Path(__file__).parents[2] / "experiments" / "YOUR_OWN.md").read_text()
    for file in FILES:
        length = len(file.read_text().splitlines())
        assert length <= 40 and f"(examples/{file.name}) | {length} |" in page


def test_the_page_shows_the_first_of_them():
    page = (Path(__file__).parents[2] / "experiments" / "YOUR_OWN.md").read_text()
    assert f"```python\n{FILES[NAMES.index('boat')].read_text()}```" in page


@pytest.mark.slow
def test_workers_load_them_too(tmp_path):
    """By paths relative to the folder in which the command is given."""
    process = run_matrix(
        "--plugin", *(str(file.relative_to("/")) for file in FILES), "--env", "boat", "tug",
        "--algo", "a2c", "es", "--technique", "baseline", "dr-edge", "--seeds", "0",
        "--total-steps", "20000",
        "--eval-episodes", "10", "--no-plots", "--launcher", "local", "--workers", "2",
        "--out", str(tmp_path),
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    records, damage = read_records(open_store(tmp_path, create=False))
    assert damage == [] and len(records) == 4

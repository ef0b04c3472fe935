"""Kinds of study: what is made of a trained batch comes from outside of the runner."""

import numpy as np

from envs_jax import make_task
from jaxgen.results.lock import locked
from jaxgen.results.store import Store, open_store
from jaxgen.running import runner
from jaxgen.running.batch import Trainer
from jaxgen.running.kinds.base import Derived, Kind
from jaxgen.running.progress import Progress
from jaxgen.running.session import Options
from jaxgen.system import checkpoint
from small_runs import Recorder, kept_programs, small_study


def finish(trainer: Trainer, state: Progress) -> None:
    """Write how far each lane came, and nothing of its scores."""
    store = trainer.session.store
    for index, (spec, seed) in enumerate(trainer.batch.lanes):
        result = {"steps": int(state.history["env_steps"][index, -1])}
        store.write_result(spec.name, seed, result, {"loss": state.history["loss"][index]}, {})
    checkpoint.remove(trainer.batch.checkpoint_path(store))


def derive(store: Store, plan: object, plots: bool) -> Derived:
    store.write_text("toy.txt", f"{plots}\n")
    return Derived([], [])


def test_a_kind_decides_what_is_made_of_a_batch(tmp_path):
    """The runner trains for it, asks it what is lost, and makes no model and no scores itself."""
    asked = []
    toy = Kind(finish, lambda store, group: asked.append(group.name), derive)
    study, store = small_study(seeds=[0]), open_store(tmp_path)
    with locked(store), kept_programs():
        runner.run_study(study, store, make_task, Recorder(), toy, Options())
    assert asked == ["ppo_cartpole"]
    assert toy.derive is not None and toy.derive(store, None, False) == Derived([], [])
    written = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert written <= {"store.json", "runs", "checkpoints"} | {"toy.txt"}
    for spec, seed in study.lanes:
        result = store.read_result(spec.name, seed)
        assert result["steps"] == 15_360 and "scores" not in result
        assert np.isfinite(store.read_history(spec.name, seed)["loss"]).any()
    assert not checkpoint.saved_in(tmp_path / "checkpoints")

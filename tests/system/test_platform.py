"""What is settled before JAX starts, and that this jaxlib computes and does not hang."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgen.system import platform

ROOT = Path(__file__).parents[2]
VARIABLES = (
    "JAX_PLATFORMS", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)
on_cpu = pytest.mark.skipif(
    os.environ.get("JAXGEN_TEST_DEVICE", "cpu") != "cpu", reason="this concerns the CPU"
)


def run_fresh(code, time_limit=60, **variables):
    """Run code in a process without the settings of this one; returns what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES} | variables
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from jaxgen.system import platform\n{code}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=time_limit,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def configured(call, **variables):
    """The environment that a call of configure leaves, without JAX having been imported."""
    code = f"import os, sys, json\n{call}\nassert 'jax' not in sys.modules\n"
    return json.loads(run_fresh(f"{code}print(json.dumps(dict(os.environ)))", **variables))


# Versions


@pytest.mark.parametrize("version", ["0.10.0", "0.10.1", "0.10.2", "0.10.9", "0.11.0", "0.11.1"])
def test_known_bad_versions_are_refused_with_the_remedy(version):
    with pytest.raises(ValueError) as error:
        platform.check_jaxlib(version)
    message = str(error.value)
    assert f"jaxlib {version} " in message
    assert 'pip install "jax==0.9.2" "jaxlib==0.9.2"' in message
    assert "--allow-known-bad" in message


@pytest.mark.parametrize("version", ["0.7.2", "0.8.3", "0.9.2", "0.12.0", "0.1.10"])
def test_other_versions_are_not_refused(version):
    platform.check_jaxlib(version)


@on_cpu
def test_the_installed_version_is_the_one_that_is_checked(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    with pytest.raises(ValueError, match=r"jaxlib 0\.10\.2"):
        platform.configure(device="cpu", cache_dir=None)
    with pytest.raises(ValueError, match=r"jaxlib 0\.10\.2"):
        platform.confirm_backend("cpu")
    platform.configure(device="cpu", cache_dir=None, allow_known_bad=True)
    assert platform.confirm_backend("cpu", allow_known_bad=True) == "cpu"


@pytest.mark.parametrize(
    ("device", "variable", "installed", "expected"),
    [
        ("cpu", "", True, True),
        ("gpu", "", True, False),
        ("auto", "cpu", True, True),
        ("auto", "cuda,cpu", False, False),
        ("auto", "", True, False),
        ("auto", "", False, True),
    ],
)
def test_versions_concern_the_cpu_only(monkeypatch, device, variable, installed, expected):
    monkeypatch.setenv("JAX_PLATFORMS", variable)
    monkeypatch.setattr(platform, "accelerator", lambda: "cuda12" if installed else "")
    assert platform._will_use_cpu(device) == expected


# Devices


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="device 'cuda' is not known; use one of auto, cpu"):
        platform.configure(device="cuda")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="num_devices = 0 is not allowed"):
        platform.configure(num_devices=0)


@on_cpu
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="device 'tpu' was not found, only 'cpu'"):
        platform.confirm_backend("tpu")


@on_cpu
def test_settings_that_come_too_late_are_refused():
    assert platform.confirm_backend() == "cpu"
    with pytest.raises(RuntimeError, match="JAX has started"):
        platform.configure(device="tpu", cache_dir=None)
    # What stands already does not come too late.
    platform.configure(device="cpu", num_devices=7, cache_dir=None)


def test_the_device_flag_is_appended_or_respected():
    call = "platform.configure('cpu', num_devices=3, cache_dir=None)"
    flag = "--xla_force_host_platform_device_count="
    wide = "--xla_cpu_prefer_vector_width=512"
    assert configured(call)["XLA_FLAGS"] == f"{flag}3 {wide}"
    assert configured(call)["JAX_PLATFORMS"] == "cpu"
    other = "--xla_cpu_enable_fast_math=false"
    assert configured(call, XLA_FLAGS=other)["XLA_FLAGS"] == f"{other} {flag}3 {wide}"
    narrow = wide.replace("512", "128")
    own = f"{flag}5 {narrow}"
    # The last one counts.
    assert configured(call, XLA_FLAGS=own)["XLA_FLAGS"] == f"{own} {wide}"
    assert configured(call, XLA_FLAGS=f"{own} {wide}")["XLA_FLAGS"] == f"{own} {wide}"


def test_the_default_is_a_device_for_each_core_up_to_eight():
    for cores, devices in ((1, 1), (2, 2), (64, 8)):
        call = f"platform.num_cores = lambda: {cores}\nplatform.configure(cache_dir=None)"
        variables = configured(call)
        assert f"_device_count={devices} " in variables["XLA_FLAGS"]
        assert "JAX_PLATFORMS" not in variables
    assert 1 <= platform.num_cores() <= (os.cpu_count() or 1)


def test_jax_gets_the_devices_and_the_cache(tmp_path):
    out = run_fresh(
        f"import jax\nplatform.configure('cpu', num_devices=2, cache_dir={str(tmp_path)!r})\n"
        "import json\nprint(json.dumps([platform.confirm_backend(), platform.describe(), "
        "jax.config.jax_compilation_cache_dir]))"
    )
    backend, description, cache = json.loads(out)
    assert backend == "cpu"
    assert len(description["devices"]) == 2
    assert description["versions"]["jax"] == importlib.metadata.version("jax")
    assert description["memory_bytes"] > 0
    assert Path(cache).parent == tmp_path


# Compilation cache


def cache_of(call, **variables):
    return Path(configured(call, **variables)["JAX_COMPILATION_CACHE_DIR"])


def test_the_cache_is_private_and_of_the_user(tmp_path):
    folder = cache_of("platform.configure('cpu')", XDG_CACHE_HOME=str(tmp_path))
    assert folder.parent == tmp_path / "jaxgen"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert cache_of("platform.configure('cpu')", XDG_CACHE_HOME=str(tmp_path)) == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    home = cache_of("platform.configure('cpu')", XDG_CACHE_HOME="relative", HOME=str(tmp_path))
    assert home.parent == tmp_path / ".cache" / "jaxgen"


def test_a_cache_of_the_user_s_own_goes_before(tmp_path):
    own = str(tmp_path)
    assert cache_of("platform.configure('cpu')", JAX_COMPILATION_CACHE_DIR=own) == tmp_path
    without = configured("platform.configure('cpu', cache_dir=None)")
    assert "JAX_COMPILATION_CACHE_DIR" not in without


def test_without_a_folder_it_goes_on_without_a_cache(tmp_path):
    (tmp_path / "file").write_text("")
    code = f"""import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(platform.configure("cpu", cache_dir={str(tmp_path / "file" / "x")!r}))
print(caught[0].message)"""
    assert run_fresh(code).startswith("None\nno compilation cache (")


def test_only_what_was_sealed_stays_in_the_cache(tmp_path):
    call = f"platform.configure('cpu', cache_dir={str(tmp_path)!r})"
    folder = cache_of(call)
    entries = [folder / f"{name}-cache" for name in ("whole", "torn", "flipped")]
    for entry in entries:
        entry.write_bytes(b"program")
    # This process seals nothing that it finds at its start, so all are removed.
    cache_of(call)
    assert not any(entry.exists() for entry in entries)
    write = "\n".join(
        f"from pathlib import Path; Path({str(entry)!r}).write_bytes(b'program')"
        for entry in (entries[0], entries[2])
    )
    cache_of(f"{call}\n{write}")
    entries[1].write_bytes(b"pro")
    entries[2].write_bytes(b"Program")
    cache_of(call)
    assert [entry.exists() for entry in entries] == [True, False, False]


# This jaxlib

NUMERICS = """
platform.configure("cpu", num_devices=2, cache_dir=None)
import jax, numpy as np
matrix = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
rows = np.random.default_rng(1).normal(size=(38_400, 3)).astype(np.float32)
ours = jax.jit(jax.vmap(lambda row: ((matrix @ row) ** 2).sum()))(rows)
expected = ((rows.astype(np.float64) @ matrix.T) ** 2).sum(axis=1)
print(int((abs(np.asarray(ours) - expected) > 1e-4 * (1 + expected)).sum()))
"""

TRAINING = """
platform.configure("cpu", num_devices=2, cache_dir=None)
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P

def act(params, obs):
    return jnp.tanh(obs @ params["a"]) @ params["b"]

def rollout(params, state, key):
    def step(state, key):
        push = act(params, state) + 0.1 * jax.random.normal(key, (32, 2))
        state = 0.9 * state + 0.1 * jnp.tile(push, (1, 2))
        return state, state
    return jax.lax.scan(step, state, jax.random.split(key, 16))

def train(key):
    params = {"a": 0.1 * jax.random.normal(key, (4, 32)), "b": jnp.zeros((32, 2))}
    def iteration(carry, key):
        params, state = carry
        state, states = rollout(params, state, key)
        def minibatch(params, batch):
            loss = lambda p: ((act(p, batch) - batch[:, :2]) ** 2).mean()
            value, grads = jax.value_and_grad(loss)(params)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value
        params, losses = jax.lax.scan(minibatch, params, states.reshape(4, -1, 4))
        return (params, jax.lax.stop_gradient(state)), losses.mean()
    start = params, jax.random.normal(key, (32, 4))
    return jax.lax.scan(iteration, start, jax.random.split(key, 50))[1]

keys = jax.random.split(jax.random.key(0), 24)
mesh = jax.make_mesh((2,), ("L",), axis_types=(AxisType.Auto,))
split = dict(mesh=mesh, in_specs=P("L"), out_specs=P("L"))
# With check_vma, gradients of parameters that start as constants are summed over the devices.
lanes = jax.jit(jax.shard_map(jax.vmap(train), check_vma=False, **split))
losses = np.asarray(lanes(keys))
np.testing.assert_array_equal(losses, np.asarray(lanes(keys)))
np.testing.assert_allclose(losses[5], np.asarray(jax.jit(train)(keys[5])), rtol=1e-5)
assert (losses[:, -1] < 0.5 * losses[:, 0]).all()
print(losses.shape)
"""


@on_cpu
def test_products_of_many_small_rows_are_right():
    # jaxlib 0.10.2 gets more than 5 600 of these rows wrong.
    assert run_fresh(NUMERICS) == "0\n"


@pytest.mark.slow
@on_cpu
def test_a_vmapped_training_run_on_two_devices_ends():
    # jaxlib 0.10 stops for ever in some programs of this kind.
    assert run_fresh(TRAINING, time_limit=120) == "(24, 50)\n"


@on_cpu
@pytest.mark.slow
def test_vmapped_training_runs_end_every_time():
    for _ in range(5):
        assert run_fresh(TRAINING, time_limit=120) == "(24, 50)\n"


# Memory


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_limits_of_control_groups_count(tmp_path):
    """Version 2: of the group and of those around it; cached files do not count as taken."""
    group = tmp_path / "sys/fs/cgroup/outer/inner"
    write(tmp_path, proc__self__cgroup="0::/outer/inner\n")
    assert platform.cgroup_rooms(tmp_path) == []
    group.mkdir(parents=True)
    write(group, **{"memory.max": "max\n", "memory.current": "5000\n"})
    assert platform.cgroup_rooms(tmp_path) == []
    write(group.parent, **{
        "memory.max": "8000\n", "memory.current": "5000\n",
        "memory.stat": "anon 4000\ninactive_file 600\n",
    })
    assert platform.cgroup_rooms(tmp_path) == [3600]
    write(group, **{"memory.max": "4000\n"})
    assert platform.cgroup_rooms(tmp_path) == [0, 3600]


def test_the_limits_of_older_control_groups_count(tmp_path):
    write(tmp_path, proc__self__cgroup="5:cpu:/elsewhere\n4:memory:/own\n0::/\n")
    write(tmp_path / "sys/fs/cgroup/memory/own", **{
        "memory.limit_in_bytes": "9000\n", "memory.usage_in_bytes": "5000\n",
        "memory.stat": "total_inactive_file 1000\n",
    })
    assert platform.cgroup_rooms(tmp_path) == [5000]


def test_without_control_groups_there_are_no_limits(tmp_path):
    assert platform.cgroup_rooms(tmp_path) == []
    assert platform.cgroup_quotas(tmp_path) == []


def test_the_quotas_of_control_groups_count(tmp_path):
    """Version 2: of the group and of those around it, in cores, rounded up."""
    group = tmp_path / "sys/fs/cgroup/outer/inner"
    write(tmp_path, proc__self__cgroup="0::/outer/inner\n")
    write(group, **{"cpu.max": "max 100000\n"})
    write(group.parent, **{"cpu.max": "150000 100000\n"})
    assert platform.cgroup_quotas(tmp_path) == [2]
    write(group, **{"cpu.max": "100000 100000\n"})
    assert platform.cgroup_quotas(tmp_path) == [1, 2]


@pytest.mark.parametrize(("quota", "cores"), [("-1", []), ("400000", [4])])
def test_the_quotas_of_older_control_groups_count(tmp_path, quota, cores):
    write(tmp_path, proc__self__cgroup="5:cpu,cpuacct:/own\n4:memory:/elsewhere\n")
    write(tmp_path / "sys/fs/cgroup/cpu/own", **{
        "cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": "100000\n",
    })
    assert platform.cgroup_quotas(tmp_path) == cores


@pytest.mark.parametrize(("most", "many"), [("10\n", False), ("4\n", True), ("", False)])
def test_memory_mappings_are_counted_against_their_limit(tmp_path, most, many):
    maps = "".join(f"{number:x}-{number + 1:x} r--p 0 0:0 0\n" for number in range(3))
    write(tmp_path, proc__self__maps=maps, proc__sys__vm__max_map_count=most)
    assert platform.many_mappings(tmp_path) == many


def test_mappings_that_a_system_does_not_tell_are_few(tmp_path):
    assert not platform.many_mappings(tmp_path)


@pytest.mark.parametrize("limit", ["-v", "-d"])
def test_the_limits_of_the_shell_count(limit):
    """A process that may still take 200 MB knows it."""
    kind, name = {"-v": ("RLIMIT_AS", "VmSize"), "-d": ("RLIMIT_DATA", "VmData")}[limit]
    room = run_fresh(
        "import resource\n"
        f"taken = platform._amounts(platform.Path('/proc/self/status'))['{name}'] * 1024\n"
        f"resource.setrlimit(resource.{kind}, (taken + 200_000_000, resource.RLIM_INFINITY))\n"
        "print(platform._room_of_the_process())"
    )
    assert 190_000_000 < int(room) <= 200_000_000

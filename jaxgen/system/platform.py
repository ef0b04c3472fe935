"""Settings that JAX needs before it starts: device, virtual devices, compilation cache, versions.

`configure` is called first by every command line. Importing this module does not import JAX.
"""

import ctypes
import importlib.metadata
import os
import platform
import re
import resource
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jaxgen.system.compilation import configure_cache
from jaxgen.system.errors import BadInput
from jaxgen.system.options import check_process, jax_started, set_variable

Device = Literal["auto", "cpu", "gpu", "tpu"]
DEVICES = ("auto", "cpu", "gpu", "tpu")

KNOWN_GOOD = "0.9.2"
"""The jax and jaxlib of requirements.lock, on which all was measured."""

KNOWN_BAD = {
    "0.10": "deadlocks on vmapped training programs and computes wrong sums of matrix products",
    "0.11": "computes wrong results and makes scans with small outputs quadratically slow",
}
"""Faults of these series of jaxlib on a CPU; GPUs and TPUs are not concerned."""

MAX_VIRTUAL_DEVICES = 8
"""More CPU devices than this are only made if asked for."""

MAPPINGS_SHARE = 0.7
"""The share of a process's memory mappings at which compiled programs are let go."""

known_bad_allowed = False
"""Whether `configure` was told to go on with any jaxlib."""

_warned = False
_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
"""Parameters of glibc's mallopt."""
_DEVICE_FLAG = "--xla_force_host_platform_device_count"
_VECTORS_FLAG = "--xla_cpu_prefer_vector_width=512"
_REMEDY = f'pip install "jax=={KNOWN_GOOD}" "jaxlib=={KNOWN_GOOD}"'


def configure(
    device: Device = "auto",
    num_devices: int | None = None,
    allow_known_bad: bool = False,
    cache_dir: Path | Literal["auto"] | None = "auto",
) -> Path | None:
    """Set up the environment of JAX, before it starts; returns the compilation cache's folder.

    Args:
        device: where to compute; ``auto`` leaves the choice to JAX.
        num_devices: virtual CPU devices over which lanes are split; None: one for each core that
            this process may use, at most 8. A number that XLA_FLAGS already gives stays.
        allow_known_bad: start on a CPU with a jaxlib that is known to be wrong there.
        cache_dir: for compiled programs; ``auto``: a private folder of the user's cache, None:
            no cache. JAX_COMPILATION_CACHE_DIR goes before it.

    Raises:
        ValueError: an unknown device, a number of devices below 1, or a known-bad jaxlib.
        RuntimeError: JAX has started already, without these settings.
    """
    if device not in DEVICES:
        raise BadInput(f"device {device!r} is not known; use one of {', '.join(DEVICES)}")
    if num_devices is not None and num_devices < 1:
        raise BadInput(f"num_devices = {num_devices!r} is not allowed; use 1 or more")
    global known_bad_allowed
    known_bad_allowed = allow_known_bad
    if not allow_known_bad and _will_use_cpu(device):
        check_jaxlib()
    if device != "auto":
        set_variable("JAX_PLATFORMS", _platforms(device), needs_start=True)
    flags = os.environ.get("XLA_FLAGS", "")
    if _DEVICE_FLAG not in flags:
        count = num_devices or min(num_cores(), MAX_VIRTUAL_DEVICES)
        set_variable("XLA_FLAGS", f"{flags} {_DEVICE_FLAG}={count}".strip(), needs_start=True)
    flags = os.environ["XLA_FLAGS"]
    if device in ("auto", "cpu") and not flags.endswith(_VECTORS_FLAG) and not jax_started():
        # XLA keeps to 256 bits of its own accord; where a CPU has no 512, nothing changes. The
        # last flag counts: sums of another width are other numbers.
        set_variable("XLA_FLAGS", f"{flags} {_VECTORS_FLAG}")
    quieten(device)
    machine = f"{platform.machine()} {cpu_model()} {_cpu_info('flags')} {_version('jaxlib')}"
    return configure_cache(cache_dir, machine)


def quieten(device: Device = "auto") -> None:
    """Ask XLA for silence on a CPU; it listens when it is imported, and not afterwards.

    Each program from the cache would print pages that say its tuning hints (+prefer-no-gather) are
    no CPU features; the cache is kept apart by CPU. Errors raise.
    """
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ and _will_use_cpu(device):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def configure_if_new() -> None:
    """Set up JAX as the command line does, unless it has started; one warning where it has, and
    computes on a CPU with other bits, or on a single core."""
    global _warned
    check_process()
    if not jax_started():
        configure(allow_known_bad=known_bad_allowed)
    elif not _warned and _VECTORS_FLAG not in os.environ.get("XLA_FLAGS", ""):
        import jax

        _warned = True
        if jax.default_backend() == "cpu":
            warnings.warn(
                "JAX has started before jaxgen could set it up: agents differ in bits from those "
                "of the command line, and train on one core; call jaxgen.configure() first, before "
                "anything computes",
                stacklevel=4,
            )


def confirm_backend(
    device: Device = "auto", allow_known_bad: bool = False, num_devices: int | None = None
) -> str:
    """Start JAX and return its backend, having checked that it is the one that was asked for.

    Raises:
        ValueError: the device is not there, or not so many, or JAX has fallen back to a CPU with a
            known-bad jaxlib, or it cannot compute in this process, see
            `jaxgen.system.options.check_process`.
    """
    check_process()
    import jax

    try:
        backend = jax.default_backend()
    except RuntimeError as error:
        raise BadInput(f"device {device!r} cannot be used ({error}); try cpu") from error
    if device not in ("auto", backend):
        raise BadInput(f"device {device!r} was not found, only {backend!r}; use that or auto")
    if backend == "cpu" and not allow_known_bad:
        check_jaxlib()
    count = jax.local_device_count()
    if num_devices is not None and num_devices > count:
        raise BadInput(f"{num_devices} devices were asked for, and there are {count}; use fewer")
    return backend


def check_jaxlib(version: str | None = None) -> None:
    """Raise ValueError if this jaxlib (None: the one installed) is known to be wrong on a CPU."""
    version = version or importlib.metadata.version("jaxlib")
    fault = KNOWN_BAD.get(".".join(version.split(".")[:2]))
    if fault:
        raise BadInput(
            f"jaxlib {version} {fault} on a CPU; install another one: {_REMEDY}, "
            "or go on at your own risk with --allow-known-bad"
        )


def num_cores() -> int:
    """CPU cores that this process may use: affinity and its groups' quotas, at least 1."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *cgroup_quotas()]))


def cgroup_quotas(root: Path = Path("/")) -> list[int]:
    """Cores, rounded up, that each control group of this process, and those around it, grant.

    Args:
        root: of the file system, where ``proc`` and ``sys`` are.
    """
    quotas = []
    for group in _groups("cpu", root):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                words = [word for name in names for word in (group / name).read_text().split()]
                quotas.append(-(-int(words[0]) // int(words[1])))
            except (OSError, ValueError):
                continue  # another version of cgroups, or "max"
    return [quota for quota in quotas if quota > 0]


def describe() -> dict[str, Any]:
    """Command, hardware and versions, for the provenance of a result; starts JAX."""
    import jax

    script, *arguments = sys.argv or [""]
    names = ("jaxgen", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": shlex.join([Path(script).name, *arguments]),
        "backend": jax.default_backend(),
        "devices": [f"{device.device_kind}:{device.id}" for device in jax.devices()],
        "cpu": cpu_model(),
        "num_cores": num_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": {name: _version(name) for name in names},
    }


def available_memory() -> int | None:
    """Bytes that the default device can still give; None where that is not known."""
    import jax

    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    rooms = [_free_of_the_machine(), *cgroup_rooms(), _room_of_the_process()]
    return min((room for room in rooms if room is not None), default=None)


def _free_of_the_machine() -> int | None:
    amounts = _amounts(Path("/proc/meminfo"))
    return amounts["MemAvailable"] * 1024 if "MemAvailable" in amounts else None


def cgroup_rooms(root: Path = Path("/")) -> list[int]:
    """Bytes that each control group of this process, and those around it, may still take.

    Args:
        root: of the file system, where ``proc`` and ``sys`` are.
    """
    rooms = [_room_of_a_group(group) for group in _groups("memory", root)]
    return [room for room in rooms if room is not None]


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's groups, of either version of cgroups, and of those around."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / ("" if controllers == "" else controller)
            inner = top / name.strip("/")
            yield from (inner, *(outer for outer in inner.parents if outer.is_relative_to(top)))


def _room_of_a_group(folder: Path) -> int | None:
    """Bytes that a group's limit leaves; files that only happen to be cached do not count."""
    for limit, usage, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, taken = ((folder / name).read_text().strip() for name in (limit, usage))
        except OSError:
            continue
        if most == "max":
            return None
        return max(0, int(most) - int(taken) + _amounts(folder / "memory.stat").get(cached, 0))
    return None


def _room_of_the_process() -> int | None:
    """Bytes that ``ulimit -v`` and ``ulimit -d`` leave."""
    amounts, rooms = _amounts(Path("/proc/self/status")), []
    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and name in amounts:
            rooms.append(max(0, limit - amounts[name] * 1024))
    return min(rooms, default=None)


def _amounts(path: Path) -> dict[str, int]:
    """The numbers in a file of lines ``name: number ...``; without a colon too."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def many_mappings(root: Path = Path("/")) -> bool:
    """Whether this process has most of the memory mappings that Linux allows it.

    Compiled programs take some each, and XLA crashes in the compilation that finds none left.

    Args:
        root: of the file system, where ``proc`` is.
    """
    try:
        most = int((root / "proc/sys/vm/max_map_count").read_text())
        with (root / "proc/self/maps").open("rb") as mappings:
            return sum(1 for _ in mappings) > MAPPINGS_SHARE * most
    except (OSError, ValueError):
        return False  # another system, or one that hides them


def keep_freed_memory() -> None:
    """Let malloc keep large freed blocks for the next ones; does nothing where it is not glibc's.

    A rollout of images is hundreds of megabytes that the system would otherwise hand out, and fill
    with zeros, page by page, each time: half of the time that the games themselves take.
    """
    try:
        libc = ctypes.CDLL(None)
        # Arenas other than the first give large blocks back at once. Those that threads have by
        # now stay theirs, so that this is best called early.
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    except (AttributeError, OSError):
        return


def cpu_model() -> str:
    """The CPU's name as the system gives it."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _platforms(device: str) -> str:
    """JAX_PLATFORMS for a device; the CPU stays reachable beside it."""
    if device == "gpu":
        return "rocm,cpu" if accelerator() == "rocm" else "cuda,cpu"
    return "cpu" if device == "cpu" else f"{device},cpu"


def _will_use_cpu(device: str) -> bool:
    """Whether it is certain, without starting JAX, that it will compute on the CPU."""
    if device == "auto":
        forced = os.environ.get("JAX_PLATFORMS", "")
        return forced == "cpu" if forced else not accelerator()
    return device == "cpu"


def accelerator() -> str:
    """The extra of jax (cuda12, rocm, tpu, ...) whose packages are installed; empty: none."""
    names = (dist.metadata["Name"] or "" for dist in importlib.metadata.distributions())
    for name in names:
        match = re.match(r"jax-(cuda\d*|rocm)|lib(tpu)", name.lower().replace("_", "-"))
        if match:
            return match[1] or match[2]
    return ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_info(field: str) -> str:
    """The first value of a field of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    match = re.search(rf"^{field}\s*:\s*(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""

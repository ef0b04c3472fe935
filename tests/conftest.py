"""Settings that must stand before JAX starts, and strictness in every test.

JAXGEN_TEST_DEVICE=gpu runs the suite on a GPU; by default it runs on two virtual CPU devices.
"""

import os

import pytest

import envs_jax  # noqa: F401  (registers the environments)
from jaxgen.system import platform


def pytest_configure(config: pytest.Config) -> None:
    """Start from the same platform in every process, with compiled programs kept between runs."""
    # Workers of pytest-xdist and subprocesses inherit the cache from the environment.
    cache = getattr(config, "cache", None)
    # Small programs too: each is compiled by one process of many, and not again the next time.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    device = os.environ.get("JAXGEN_TEST_DEVICE", "cpu")
    platform.configure(
        device=device,  # pyright: ignore[reportArgumentType]
        num_devices=2,
        cache_dir=cache.mkdir("xla") if cache else None,
    )
    os.environ.setdefault("MPLBACKEND", "Agg")
    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Let go of compiled programs before there are too many."""
    yield
    if platform.many_mappings():
        import jax

        jax.clear_caches()

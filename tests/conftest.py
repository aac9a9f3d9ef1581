"""Every test runs on eight simulated CPU devices, with strict promotion of dtypes and ranks.

Most of the time goes into compiling. So the ordinary tests optimize their programs little, in the
way of XLA's that compiles in half the time, and programs are kept on disk, where the other worker,
the processes that tests start and the next run find them. Any other choice of tests (`-m slow`,
`-m ""`) optimizes as users' programs are.
"""

import functools
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import jax.numpy as jnp
import pytest

from tests.sampling import sample

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Compiling takes longer than any deadline; the same examples in every run.
hypothesis.settings.register_profile("jopt", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jopt")

# Bytes of programs kept, and memory maps of one process, of which Linux allows 65,530: each
# program takes some.
MOST_KEPT = 2 << 30
MOST_MAPS = 40_000

SOONER = "--xla_cpu_use_fusion_emitters=false"


def known(flag):
    """Whether this XLA has the flag: a process that gives it another one dies."""
    code = "import jax; jax.devices()"
    env = {**os.environ, "XLA_FLAGS": flag}
    return not subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).returncode


def pytest_configure(config):
    """Choose how programs are compiled, before the first one is."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return  # which inherits the choice
    flags = os.environ.get("XLA_FLAGS", "").split()
    wanted = ["--xla_force_host_platform_device_count=8"]
    if config.option.markexpr == "not slow":
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        wanted += [SOONER] if known(SOONER) else []
    given = {flag.split("=")[0] for flag in flags}
    flags += [flag for flag in wanted if flag.split("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    if config.pluginmanager.has_plugin("cacheprovider"):
        folder = config.cache.mkdir("jax")
        if sum(f.stat().st_size for f in folder.iterdir()) > MOST_KEPT:
            shutil.rmtree(folder)
        keep = {
            "jax_compilation_cache_dir": str(folder),
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        for name, value in keep.items():
            jax.config.update(name, value)
            os.environ[name.upper()] = str(value)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Take a few cases of each test over many; see `tests.sampling`."""
    oracles = ("test_torch_parity.py::test_float64", "test_papers.py::test_the_papers_lines")
    sample(items, whole=tuple(f"tests/oracles/{test}" for test in oracles))


def pytest_collection_finish():
    """Collect garbage seldom: thousands of tests and programs stay, and are looked at in vain."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """What was compiled is dropped in time: a process that cannot map another program dies."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


class CompiledLater:
    """`jax.jit(f)` with what the ordinary run turns off; within a program that program decides."""

    def __init__(self, jit, f, **options):
        self._within = jit(f, **options)
        more = {SOONER[2:].partition("=")[0]: True}
        self._alone = jit(f, **options, compiler_options=more)
        functools.update_wrapper(self, f)

    def __call__(self, *args, **kwargs):
        # Known when it is called: what is made outside of a program may be called within.
        within = isinstance(jnp.zeros(()), jax.core.Tracer)
        return (self._within if within else self._alone)(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._alone, name)


@pytest.fixture(autouse=True)
def _optimized(request, monkeypatch):
    """Programs that tests marked so compile are those of users."""
    little = jax.config.read("jax_disable_most_optimizations")
    if little and request.node.get_closest_marker("optimized"):
        jax.config.update("jax_disable_most_optimizations", False)
        if SOONER in os.environ["XLA_FLAGS"]:
            monkeypatch.setattr(jax, "jit", functools.partial(CompiledLater, jax.jit))
    yield
    jax.config.update("jax_disable_most_optimizations", little)


@pytest.fixture
def x64():
    """float64 on for one test."""
    with jax.enable_x64(True):
        yield

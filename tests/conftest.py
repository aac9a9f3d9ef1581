"""Every test runs on eight simulated CPU devices, with strict promotion of dtypes and ranks."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Compiling takes longer than any deadline; the same examples in every run.
hypothesis.settings.register_profile("jopt", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jopt")


@pytest.fixture
def x64():
    """float64 on for one test."""
    with jax.enable_x64(True):
        yield

"""What programs are compiled for: the CPU here, and an H100 and a TPU that need not be there.

Compiling needs the compiler alone: `pip install 'jopt[bench-gpu]'` brings XLA's for NVIDIA,
`pip install 'jopt[bench-tpu]'` that for TPUs.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

TARGETS = {"cpu": "this CPU", "h100": "NVIDIA H100", "tpu": "TPU v5e"}
"""The targets by name."""

# The modules that bring a compiler, and how to get them.
NEEDS = {
    "h100": ("jax_cuda13_plugin", "pip install 'jopt[bench-gpu]'"),
    "tpu": ("libtpu", "pip install 'jopt[bench-tpu]'"),
}

# An H100 SXM as XLA describes it (text format of GpuTargetConfigProto).
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132
  fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Built(NamedTuple):
    """A compiled program and what it took to make it, in seconds."""

    program: Any
    traced: float
    compiled: float


def available(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those of the targets that can be compiled for here, and why the others cannot."""
    missing = {}
    for name in names:
        if name in NEEDS and importlib.util.find_spec(NEEDS[name][0]) is None:
            missing[name] = f"{NEEDS[name][0]} is not installed: {NEEDS[name][1]}"
    return [name for name in names if name not in missing], missing


def set_up(names: Sequence[str]) -> None:
    """Tell JAX that no such device is here; before anything else asks it for devices."""
    if "tpu" in names:
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    if "h100" in names:
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    jax.config.update("jax_platforms", "cpu,cuda" if "h100" in names else "cpu")


def device(name: str) -> Any:
    """The device, or its description, that a program is compiled for."""
    if name == "cpu":
        return jax.devices("cpu")[0]
    if name == "h100":
        found = topologies.get_topology_desc(
            "h100", platform="cuda", target_config=H100, topology="1x1x1"
        )
    else:
        # One chip a host: the default for the name is four, which one chip is no multiple of.
        found = topologies.get_topology_desc(
            "v5e:1x1", platform="tpu", chips_per_host_bounds=[1, 1, 1]
        )
    return found.devices[0]


def on(tree: Any, target: Any) -> Any:
    """The shapes of a tree, placed on a device."""
    sharding = SingleDeviceSharding(target)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def build(
    run: Callable[..., Any],
    arguments: Sequence[Any],
    name: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Built:
    """Compile a step for a target. Parameters and state, the first two arguments, are donated."""
    platform = {"cpu": "cpu", "h100": "cuda", "tpu": "tpu"}[name]
    target = device(name)
    placed = [on(x, target) for x in arguments]
    jax.clear_caches()
    start = clock()
    lowered = (
        jax.jit(run, donate_argnums=(0, 1)).trace(*placed).lower(lowering_platforms=(platform,))
    )
    middle = clock()
    program = lowered.compile()
    return Built(program, middle - start, clock() - middle)


def median(built: Sequence[Built]) -> tuple[float, float]:
    """The median seconds of tracing with lowering, and of compiling."""
    return (
        statistics.median(b.traced for b in built),
        statistics.median(b.compiled for b in built),
    )

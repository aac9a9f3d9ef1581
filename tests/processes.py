"""Processes that tests start: compiled as the tests are, with devices of their own number."""

import os

DEVICES = "--xla_force_host_platform_device_count"


def environment(devices=1, *, cached=True, **more):
    """The environment of a process that sees this many CPU devices; one, as a user's does.

    With `cached=False` it compiles all its programs itself.
    """
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    flags = [f for f in env.get("XLA_FLAGS", "").split() if not f.startswith(DEVICES)]
    env["XLA_FLAGS"] = " ".join([*flags, *[f"{DEVICES}={devices}"] * (devices > 1)])
    if not cached:
        env.pop("JAX_COMPILATION_CACHE_DIR", None)
    return env | more

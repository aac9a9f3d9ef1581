"""The libraries met here mix dtypes in their own arithmetic; jopt is held to strict elsewhere."""

import jax
import pytest


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield

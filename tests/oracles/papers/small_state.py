"""Optimizers whose state is smaller than Adam's."""

from __future__ import annotations

import numpy as np

from tests.oracles.papers.draws import projections


def came(p, gs, *, learning_rate, b1, b2, b3, eps1, eps2, clipping_threshold, weight_decay):
    matrix = np.ndim(p) > 1
    mean = lambda x, axis: x.mean(axis, keepdims=True)  # noqa: E731
    m, v = 0 * p, 0 * p
    r, c = (0 * mean(p, -1), 0 * mean(p, -2)) if matrix else (None, None)
    r2, c2 = (0 * r, 0 * c) if matrix else (None, None)
    for g in gs:
        s = g**2 + eps1
        if matrix:
            r = b2 * r + (1 - b2) * mean(s, -1)
            c = b2 * c + (1 - b2) * mean(s, -2)
            v = r * c / mean(r, -2)
        else:
            v = b2 * v + (1 - b2) * s
        u = g / np.sqrt(v)
        u = u / max(1, np.sqrt(np.mean(u**2)) / clipping_threshold)
        m = b1 * m + (1 - b1) * u
        d = m
        if matrix:
            s = (u - m) ** 2 + eps2
            r2 = b3 * r2 + (1 - b3) * mean(s, -1)
            c2 = b3 * c2 + (1 - b3) * mean(s, -2)
            d = m / np.sqrt(r2 * c2 / mean(r2, -2))
        p = p - learning_rate * (d + weight_decay * p)
    return p


def adam_mini(p, gs, *, learning_rate, b1, b2, eps, weight_decay):
    m, v = 0 * p, 0.0
    for t, g in enumerate(gs, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.mean(g**2)
        d = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - learning_rate * (d + weight_decay * p)
    return p


def apollo(
    p, gs, *, learning_rate, b1, b2, eps, rank, update_every, scale, per, max_growth,
    weight_decay, seed,
):  # fmt: skip
    low = np.ndim(p) == 2 and min(np.shape(p)) > rank
    if low and np.shape(p)[0] >= np.shape(p)[1]:
        numbers = {k: x for k, x in locals().items() if k not in ("p", "gs", "low")}
        return apollo(p.T, np.swapaxes(gs, 1, 2), **numbers).T
    m = v = before = 0
    for t, g in enumerate(gs, 1):
        k = np.sqrt(1 - b2**t) / (1 - b1**t)
        r = g
        if low:
            drawn = projections(seed)[(t - 1) // update_every, : rank * len(p)]
            r = drawn.reshape(rank, len(p)) / np.sqrt(rank) @ g
        m = b1 * m + (1 - b1) * r
        v = b2 * v + (1 - b2) * r**2
        d = u = m / (np.sqrt(v) + eps)
        if low:
            axis = 0 if per == "channel" else None
            d = np.linalg.norm(u, axis=axis) / (np.linalg.norm(r, axis=axis) + 1e-8) * g
            size = np.linalg.norm(d)
            if max_growth is not None and before > 0:
                shrink = max(size / before, max_growth) / max_growth
                d, size = d / shrink, size / shrink
            before = size
            d = np.sqrt(scale) * d
        p = p - learning_rate * (k * d + weight_decay * p)
    return p

"""Steps by the norms of whole arrays."""

from __future__ import annotations

import numpy as np


def length(x):
    return np.sqrt(np.sum(x**2))


def lamb(p, gs, *, learning_rate, b1, b2, eps, eps_root, weight_decay):
    m, v = 0 * p, 0 * p
    for t, g in enumerate(gs, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        d = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + weight_decay * p
        p = p - learning_rate * length(p) / length(d) * d if length(d) else p
    return p


def lars(p, gs, *, learning_rate, weight_decay, trust_coefficient, eps, momentum, nesterov):
    b = 0 * p
    for g in gs:
        g = g + weight_decay * p
        u = trust_coefficient * length(p) / (length(g) + eps) * g if length(g) else g
        b = momentum * b + u
        p = p - learning_rate * (u + momentum * b if nesterov else b)
    return p


def novograd(p, gs, *, learning_rate, b1, b2, eps, eps_root, weight_decay):
    m, v = 0 * p, length(gs[0]) ** 2
    for t, g in enumerate(gs):
        if t > 0:
            v = b2 * v + (1 - b2) * length(g) ** 2
        m = b1 * m + (g / (np.sqrt(v + eps_root) + eps) + weight_decay * p)
        p = p - learning_rate * m
    return p


def fromage(p, gs, *, learning_rate, min_norm):
    for g in gs:
        ratio = max(length(p), min_norm) / (max(length(g), min_norm) or 1.0)
        p = (p - learning_rate * ratio * g) / np.sqrt(1 + learning_rate**2)
    return p

"""Optimizers that torch lacks, as plain loops in float64: the lines of their papers for one array.

Each is `name(p, gs, **numbers)`: the parameter after the steps with the gradients `gs`. They share
nothing with jopt, nor with each other.
"""

from __future__ import annotations

import numpy as np


def lion(p, gs, *, learning_rate, b1, b2, weight_decay):
    m = 0 * p
    for g in gs:
        d = np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        p = p - learning_rate * (d + weight_decay * p)
    return p


def signum(p, gs, *, learning_rate, beta, weight_decay):
    m = 0 * p
    for g in gs:
        m = beta * m + (1 - beta) * g
        p = p - learning_rate * (np.sign(m) + weight_decay * p)
    return p


def adabelief(p, gs, *, learning_rate, b1, b2, eps, eps_root, weight_decay, nesterov):
    m, s = 0 * p, 0 * p
    for t, g in enumerate(gs, 1):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
        ahead = m / (1 - b1**t)
        if nesterov:
            ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        d = ahead / (np.sqrt(s / (1 - b2**t)) + eps)
        p = p - learning_rate * (d + weight_decay * p)
    return p


def yogi(p, gs, *, learning_rate, b1, b2, eps, initial_accumulator_value, weight_decay):
    m, v = 0 * p, 0 * p + initial_accumulator_value
    for t, g in enumerate(gs, 1):
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - g**2) * g**2
        d = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - learning_rate * (d + weight_decay * p)
    return p


def adan(p, gs, *, learning_rate, b1, b2, b3, eps, eps_root, weight_decay):
    # The paper's own betas are 1 less these.
    c1, c2, c3 = 1 - b1, 1 - b2, 1 - b3
    m, v, n, before = 0 * p, 0 * p, 0 * p, gs[0]
    for t, g in enumerate(gs, 1):
        m = (1 - c1) * m + c1 * g
        v = (1 - c2) * v + c2 * (g - before)
        n = (1 - c3) * n + c3 * (g + (1 - c2) * (g - before)) ** 2
        above = m / (1 - b1**t) + (1 - c2) * v / (1 - b2**t)
        d = above / (np.sqrt(n / (1 - b3**t) + eps_root) + eps)
        p, before = p - learning_rate * (d + weight_decay * p), g
    return p


def adopt(p, gs, *, learning_rate, b1, b2, eps, weight_decay, nesterov, use_clipping):
    m, v = 0 * p, None
    for t, g in enumerate(gs):
        g = g + weight_decay * p
        if v is None:
            v = g**2
            continue
        u = g / np.maximum(np.sqrt(v), eps)
        if use_clipping:
            u = np.clip(u, -(t**0.25), t**0.25)
        m = b1 * m + (1 - b1) * u
        v = b2 * v + (1 - b2) * g**2
        p = p - learning_rate * (b1 * m + (1 - b1) * u if nesterov else m)
    return p


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


def prodigy(
    p,
    gs,
    *,
    learning_rate,
    b1,
    b2,
    b3,
    eps,
    estim_lr0,
    estim_lr_coef,
    weight_decay,
    safeguard_warmup,
    bias_correction,
):
    b3 = np.sqrt(b2) if b3 is None else b3
    start, m, v, s, r, d = p, 0 * p, 0 * p, 0 * p, 0.0, estim_lr0
    for t, g in enumerate(gs, 1):
        bias = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        rate = d * learning_rate * bias
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * (d * g) ** 2
        s = b3 * s + d / estim_lr0 * (d if safeguard_warmup else rate) * g
        r = b3 * r + d / estim_lr0 * rate * np.sum(g * (start - p))
        if np.any(s):
            d = max(d, estim_lr_coef * r / np.sum(np.abs(s)))
        p = p - rate * (m / (np.sqrt(v) + d * eps) + weight_decay * p)
    return p


def length(x):
    return np.sqrt(np.sum(x**2))

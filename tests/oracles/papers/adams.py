"""Adam and what became of it."""

from __future__ import annotations

import numpy as np


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


def optimistic_adam(
    p, gs, *, learning_rate, alpha, beta, b1, b2, eps, eps_root, weight_decay, nesterov
):
    m, v, before = 0 * p, 0 * p, None
    for t, g in enumerate(gs, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = m / (1 - b1**t)
        if nesterov:
            ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        r = ahead / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        before = r if before is None else before
        d = (alpha + beta) * r - beta * before
        p, before = p - learning_rate * (d + weight_decay * p), r
    return p


def acprop(p, gs, *, learning_rate, b1, b2, eps, eps_root, weight_decay):
    m, s = 0 * p, 0 * p
    for t, g in enumerate(gs):
        under = np.sqrt(s / (1 - b2**t)) if t else 1.0
        p = p - learning_rate * (g / (under + eps) + weight_decay * p)
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
    return p


def ademamix(p, gs, *, learning_rate, b1, b2, b3, alpha, eps, eps_root, weight_decay):
    fast, slow, v = 0 * p, 0 * p, 0 * p
    for t, g in enumerate(gs, 1):
        fast = b1 * fast + (1 - b1) * g
        slow = b3 * slow + (1 - b3) * g
        v = b2 * v + (1 - b2) * g**2
        under = np.sqrt(v / (1 - b2**t) + eps_root) + eps
        d = (fast / (1 - b1**t) + alpha * slow) / under
        p = p - learning_rate * (d + weight_decay * p)
    return p


def simplified_ademamix(p, gs, *, learning_rate, b1, b2, alpha, eps, eps_root, weight_decay):
    m, v = 0 * p, 0 * p
    for t, g in enumerate(gs, 1):
        m = b1 * m + g
        v = b2 * v + (1 - b2) * g**2
        d = (m + alpha * g) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        p = p - learning_rate * (d + weight_decay * p)
    return p


def adabound(
    p, gs, *, learning_rate, b1, b2, eps, final_learning_rate, gamma, weight_decay, amsbound
):
    m, v, most = 0 * p, 0 * p, 0 * p
    for t, g in enumerate(gs, 1):
        g = g + weight_decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        most = np.maximum(most, v)
        size = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
        size = size / (np.sqrt(most if amsbound else v) + eps)
        low = final_learning_rate * (1 - 1 / (gamma * t + 1))
        high = final_learning_rate * (1 + 1 / (gamma * t))
        p = p - np.clip(size, low, high) * m
    return p

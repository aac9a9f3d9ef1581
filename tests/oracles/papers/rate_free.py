"""What finds its own learning rate."""

from __future__ import annotations

import numpy as np


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


def dadapt_adamw(p, gs, *, learning_rate, b1, b2, eps, estim_lr0, weight_decay):
    b3 = np.sqrt(b2)
    m, v, s, r, d = 0 * p, 0 * p, 0 * p, 0.0, estim_lr0
    for t, g in enumerate(gs, 1):
        rate = d * learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + (1 - b3) * rate * np.sum(g * s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * rate * g
        v = b2 * v + (1 - b2) * g**2
        s = b3 * s + (1 - b3) * rate * g
        d = max(d, r / ((1 - b3) * np.sum(np.abs(s))))
        p = p - m / (np.sqrt(v) + eps) - rate * weight_decay * p
    return p


def dog(p, gs, *, learning_rate, init_step, eps, weight_decay):
    (kind, first), start, total = init_step, p, 0.0
    far = {"heuristic": first * (1 + np.linalg.norm(p)), "distance": first, "learning_rate": 0.0}
    far = far[kind]
    for t, g in enumerate(gs):
        g = g + weight_decay * p
        far = max(far, np.linalg.norm(p - start))
        total = total + np.sum(g**2)
        rate = far / np.sqrt(total + eps)
        rate = first if kind == "learning_rate" and t == 0 else rate
        p = p - learning_rate * rate * g
    return p


def dowg(p, gs, *, learning_rate, init_estim_sq_dist, eps, weight_decay):
    start, total = p, 0.0
    square = eps if init_estim_sq_dist is None else init_estim_sq_dist
    for g in gs:
        g = g + weight_decay * p
        square = max(square, np.sum((p - start) ** 2))
        total = total + square * np.sum(g**2)
        p = p - learning_rate * square / (np.sqrt(total) + eps) * g
    return p


def cocob(p, gs, *, learning_rate, alpha, eps, weight_decay):
    start, theta, total, reward, largest = p, 0 * p, 0 * p, 0 * p, 0 * p + eps
    for g in gs:
        g = learning_rate * (g + weight_decay * p)
        largest = np.maximum(largest, np.abs(g))
        total = total + np.abs(g)
        reward = np.maximum(reward - g * (p - start), 0)
        theta = theta - g
        under = largest * np.maximum(total + largest, alpha * largest)
        p = start + theta / under * (largest + reward)
    return p


def polyak_sgd(p, gs, value, *, max_learning_rate, learning_rate, f_min, eps, variant):
    for g, f in zip(gs, value, strict=True):
        gap = max(f - f_min, 0) if variant == "sps+" else f - f_min
        if np.any(g):
            p = p - learning_rate * min(gap / (np.sum(g**2) + eps), max_learning_rate) * g
    return p


def momo(p, gs, value, *, learning_rate, beta, lower_bound, weight_decay, adapt_lower_bound):
    d, mean, dot, low = gs[0], value[0], np.sum(gs[0] * p), lower_bound
    grown = 1 + learning_rate * weight_decay
    for g, f in zip(gs, value, strict=True):
        d = beta * d + (1 - beta) * g
        mean = beta * mean + (1 - beta) * f
        dot = beta * dot + (1 - beta) * np.sum(g * p)
        along, square = np.sum(d * p), np.sum(d**2)
        gap = grown * (mean - dot) + along
        if adapt_lower_bound and gap < grown * low:
            low = max(gap / (2 * grown), lower_bound)
        tau = min(learning_rate, max(gap - grown * low, 0) / square)
        if adapt_lower_bound:
            low = max(mean - dot + along - tau * square / 2, lower_bound)
        p = (p - tau * d) / grown
    return p


def momo_adam(
    p, gs, value, *, learning_rate, b1, b2, eps, lower_bound, weight_decay, adapt_lower_bound
):
    m, v, mean, dot, low = 0 * p, 0 * p, 0.0, 0.0, lower_bound
    grown = 1 + learning_rate * weight_decay
    for t, (g, f) in enumerate(zip(gs, value, strict=True), 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        d = m / (np.sqrt(v / (1 - b2**t)) + eps)
        mean = b1 * mean + (1 - b1) * f
        dot = b1 * dot + (1 - b1) * np.sum(g * p)
        along, square, bias = np.sum(m * p), np.sum(m * d), 1 - b1**t
        gap = grown * (mean - dot) + along
        if adapt_lower_bound and gap < grown * bias * low:
            low = max(gap / (2 * bias * grown), lower_bound)
        tau = min(learning_rate / bias, max(gap - grown * bias * low, 0) / square)
        if adapt_lower_bound:
            low = max((mean - dot + along - tau * square / 2) / bias, lower_bound)
        p = (p - tau * d) / grown
    return p

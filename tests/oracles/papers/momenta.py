"""The gradient, its sign, and momenta of it."""

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


def sign_sgd(p, gs, *, learning_rate, weight_decay):
    for g in gs:
        p = p - learning_rate * (np.sign(g) + weight_decay * p)
    return p


def optimistic_gradient_descent(p, gs, *, learning_rate, alpha, beta, weight_decay):
    before = gs[0] + weight_decay * p
    for g in gs:
        g = g + weight_decay * p
        p, before = p - learning_rate * ((alpha + beta) * g - beta * before), g
    return p


def madgrad(p, gs, *, learning_rate, momentum, weight_decay, eps):
    start, s, v = p, 0 * p, 0 * p
    for k, g in enumerate(gs):
        g = g + weight_decay * p
        weight = (learning_rate + eps) * np.sqrt(k + 1)
        s = s + weight * g
        v = v + weight * g**2
        p = momentum * p + (1 - momentum) * (start - s / (np.cbrt(v) + eps))
    return p


def sm3(p, gs, *, learning_rate, momentum, b2, eps, weight_decay):
    m, of = 0 * p, [np.zeros(n) for n in np.shape(p)] or [np.zeros(())]
    axes = range(np.ndim(p))
    for g in gs:
        v = np.zeros(np.shape(p))
        for at in np.ndindex(np.shape(p)):
            least = min(x[i] for x, i in zip(of, at, strict=True)) if at else of[0]
            v[at] = b2 * least + (1 if b2 == 1 else 1 - b2) * g[at] ** 2
        of = [v.max(tuple(j for j in axes if j != i)) for i in axes] or [v]
        m = momentum * m + (1 - momentum) * g / np.sqrt(v + eps)
        p = p - learning_rate * (m + weight_decay * p)
    return p


def noisy_sgd(p, gs, *, learning_rate, eta, weight_decay):
    assert eta == 0
    for g in gs:
        p = p - learning_rate * (g + weight_decay * p)
    return p


def tiger(p, gs, *, learning_rate, b1, weight_decay, relative, min_scale):
    m = 0 * p
    for g in gs:
        m = b1 * m + (1 - b1) * g
        size = 1.0
        if relative:
            size = max(np.sqrt(np.mean(p**2)), min_scale) if np.ndim(p) > 1 else 0.5
        p = p - learning_rate * size * (np.sign(m) + weight_decay * p)
    return p

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

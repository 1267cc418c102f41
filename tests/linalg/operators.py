"""Matrices as operators."""

import numpy as np


class Dense:
    """A matrix as an operator; the upper triangle is NaN where only the lower one is asked for."""

    def __init__(self, matrix):
        self.matrix = matrix

    @property
    def size(self):
        return len(self.matrix)

    def matvec(self, vector):
        return self.matrix @ vector

    def diagonal(self):
        return np.diag(self.matrix)

    def columns(self, index):
        return np.array(self.matrix[:, index], order="F")

    def dense(self, *, lower=False, progress=None):
        result = np.array(self.matrix, order="F")
        if lower:
            result[np.triu_indices(self.size, 1)] = np.nan
        return result


def decaying(size=60, power=4.0, seed=0):
    """A matrix whose eigenvalues fall off as a power of their number, on random axes."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    values = np.arange(1.0, size + 1) ** -power
    return Dense((axes * values) @ axes.T)

"""Kernels on systems, and the permutation groups that make them symmetric."""

from jaxff.kernels import permutations
from jaxff.kernels.base import BaseKernel, matern52, rbf
from jaxff.kernels.kernel import Kernel

__all__ = ["BaseKernel", "Kernel", "matern52", "permutations", "rbf"]

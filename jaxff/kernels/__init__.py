"""Kernels on systems, and the permutation groups that make them symmetric."""

from jaxff.kernels import observations, permutations
from jaxff.kernels.algebra import Product, Scaled, Sum
from jaxff.kernels.base import (
    BaseKernel,
    matern32,
    matern52,
    matern72,
    matern92,
    rational_quadratic,
    rbf,
)
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.nonradial import (
    DotProductKernel,
    PeriodicKernel,
    dot_product,
    periodic,
    polynomial,
)
from jaxff.kernels.protocol import SystemKernel
from jaxff.kernels.symmetrized import AtomicSum, GlobalSymmetry

__all__ = [
    "AtomicSum",
    "BaseKernel",
    "DotProductKernel",
    "GlobalSymmetry",
    "Kernel",
    "PeriodicKernel",
    "Product",
    "Scaled",
    "Sum",
    "SystemKernel",
    "dot_product",
    "matern32",
    "matern52",
    "matern72",
    "matern92",
    "observations",
    "periodic",
    "permutations",
    "polynomial",
    "rational_quadratic",
    "rbf",
]

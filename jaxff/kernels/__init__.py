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
from jaxff.kernels.crystals import CrystalGroup, crystal_group, host_group
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.nonradial import (
    DotProductKernel,
    PeriodicKernel,
    dot_product,
    periodic,
    polynomial,
)
from jaxff.kernels.protocol import SystemKernel
from jaxff.kernels.sites import check_frames, in_order_of
from jaxff.kernels.space_groups import primitive_cell
from jaxff.kernels.symmetrized import AtomicSum, GlobalSymmetry

__all__ = [
    "AtomicSum",
    "BaseKernel",
    "CrystalGroup",
    "DotProductKernel",
    "GlobalSymmetry",
    "Kernel",
    "PeriodicKernel",
    "Product",
    "Scaled",
    "Sum",
    "SystemKernel",
    "check_frames",
    "crystal_group",
    "dot_product",
    "host_group",
    "in_order_of",
    "matern32",
    "matern52",
    "matern72",
    "matern92",
    "observations",
    "periodic",
    "permutations",
    "polynomial",
    "primitive_cell",
    "rational_quadratic",
    "rbf",
]

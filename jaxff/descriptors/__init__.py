"""Descriptors: differentiable functions from a system to features."""

from jaxff.descriptors.coulomb_matrix import (
    CoulombEigenvalues,
    CoulombMatrix,
    coulomb_eigenvalues,
    coulomb_matrix,
)
from jaxff.descriptors.distances import (
    DistancePowers,
    ExponentialDistances,
    LogDistances,
    distance_powers,
    exponential_distances,
    log_distances,
)
from jaxff.descriptors.internal import InternalCoordinates, internal, internal_from_geometry
from jaxff.descriptors.inverse_distances import InverseDistances, inverse_distances

__all__ = [
    "NAMED",
    "CoulombEigenvalues",
    "CoulombMatrix",
    "DistancePowers",
    "ExponentialDistances",
    "InternalCoordinates",
    "InverseDistances",
    "LogDistances",
    "coulomb_eigenvalues",
    "coulomb_matrix",
    "distance_powers",
    "exponential_distances",
    "internal",
    "internal_from_geometry",
    "inverse_distances",
    "log_distances",
]

NAMED = {
    d.name: d
    for d in (
        coulomb_matrix,
        distance_powers,
        exponential_distances,
        inverse_distances,
        log_distances,
    )
}
"""Descriptors without settings, by the names that model files use."""

"""Descriptors: differentiable functions from a system to features."""

from jaxff.descriptors.acsf import SymmetryFunctions, acsf
from jaxff.descriptors.ani import AtomicEnvironmentVectors, ani, ani_1x, ani_2x
from jaxff.descriptors.bessel import BesselPowerSpectrum, bessel_power_spectrum
from jaxff.descriptors.check import check
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
from jaxff.descriptors.fchl import FCHL19, fchl19
from jaxff.descriptors.internal import InternalCoordinates, internal, internal_from_geometry
from jaxff.descriptors.inverse_distances import InverseDistances, inverse_distances
from jaxff.descriptors.soap import Soap, soap

__all__ = [
    "FCHL19",
    "NAMED",
    "AtomicEnvironmentVectors",
    "BesselPowerSpectrum",
    "CoulombEigenvalues",
    "CoulombMatrix",
    "DistancePowers",
    "ExponentialDistances",
    "InternalCoordinates",
    "InverseDistances",
    "LogDistances",
    "Soap",
    "SymmetryFunctions",
    "acsf",
    "ani",
    "ani_1x",
    "ani_2x",
    "bessel_power_spectrum",
    "check",
    "coulomb_eigenvalues",
    "coulomb_matrix",
    "distance_powers",
    "exponential_distances",
    "fchl19",
    "internal",
    "internal_from_geometry",
    "inverse_distances",
    "log_distances",
    "soap",
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

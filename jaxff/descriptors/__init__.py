"""Descriptors: differentiable functions from a system to features."""

from dataclasses import fields
from typing import Any

from jaxff.descriptors.acsf import SymmetryFunctions, acsf
from jaxff.descriptors.ani import AtomicEnvironmentVectors, ani, ani_1x, ani_2x
from jaxff.descriptors.bessel import BesselPowerSpectrum, bessel_power_spectrum
from jaxff.descriptors.check import check
from jaxff.descriptors.coarse_grained import ChiralDistances, chiral_distances
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
from jaxff.descriptors.periodic import (
    NearestImages,
    SmoothImages,
    nearest_images,
    smooth_images,
    tied_fraction,
)
from jaxff.descriptors.soap import Soap, soap

__all__ = [
    "BUILDERS",
    "FCHL19",
    "NAMED",
    "AtomicEnvironmentVectors",
    "BesselPowerSpectrum",
    "ChiralDistances",
    "CoulombEigenvalues",
    "CoulombMatrix",
    "DistancePowers",
    "ExponentialDistances",
    "InternalCoordinates",
    "InverseDistances",
    "LogDistances",
    "NearestImages",
    "SmoothImages",
    "Soap",
    "SymmetryFunctions",
    "acsf",
    "ani",
    "ani_1x",
    "ani_2x",
    "bessel_power_spectrum",
    "check",
    "chiral_distances",
    "coulomb_eigenvalues",
    "coulomb_matrix",
    "distance_powers",
    "exponential_distances",
    "fchl19",
    "internal",
    "internal_from_geometry",
    "inverse_distances",
    "is_known",
    "log_distances",
    "nearest_images",
    "record",
    "smooth_images",
    "soap",
    "tied_fraction",
]

NAMED = {
    d.name: d
    for d in (
        coulomb_matrix,
        distance_powers,
        exponential_distances,
        inverse_distances,
        log_distances,
        nearest_images,
    )
}
"""Descriptors without settings, by the names that model files use."""

BUILDERS = {
    "acsf": (SymmetryFunctions, acsf),
    "ani": (AtomicEnvironmentVectors, ani),
    "bessel_power_spectrum": (BesselPowerSpectrum, bessel_power_spectrum),
    "chiral_distances": (ChiralDistances, chiral_distances),
    "coulomb_eigenvalues": (CoulombEigenvalues, coulomb_eigenvalues),
    "fchl19": (FCHL19, fchl19),
    "internal": (InternalCoordinates, internal),
    "smooth_images": (SmoothImages, smooth_images),
    "soap": (Soap, soap),
}
"""Records with settings, and the functions that make them from their fields, by these names."""


def record(descriptor: Any) -> tuple[str, dict[str, Any]] | None:
    """Name and settings from which :data:`BUILDERS` makes a descriptor; ``None`` if they do not."""
    for name, (kind, _) in BUILDERS.items():
        if type(descriptor) is kind:
            return name, {f.name: getattr(descriptor, f.name) for f in fields(descriptor)}
    return None


def is_known(descriptor: Any) -> bool:
    """Whether a descriptor is one of this library."""
    return record(descriptor) is not None or type(descriptor) in map(type, NAMED.values())

"""What one reads off a run: averages with errors, structure, motion, stability."""

from jaxff.analysis.geometry import angles, dihedrals, distances, histogram, topology
from jaxff.analysis.lifetimes import Lifetimes, lifetimes
from jaxff.analysis.motion import (
    Arrhenius,
    Diffusion,
    arrhenius,
    diffusion,
    mean_square_displacement,
    velocity_autocorrelation,
)
from jaxff.analysis.path_integrals import (
    Correlation,
    QuantumEnergies,
    centroids,
    kubo_autocorrelation,
    quantum_energies,
    radius_of_gyration,
)
from jaxff.analysis.radial import RadialDistribution, radial_distribution
from jaxff.analysis.stability import Survival, survival, time_to_failure
from jaxff.analysis.statistics import (
    Estimate,
    blocking,
    correlation_time,
    estimate,
    inefficiency,
    summary,
)

__all__ = [
    "Arrhenius",
    "Correlation",
    "Diffusion",
    "Estimate",
    "Lifetimes",
    "QuantumEnergies",
    "RadialDistribution",
    "Survival",
    "angles",
    "arrhenius",
    "blocking",
    "centroids",
    "correlation_time",
    "diffusion",
    "dihedrals",
    "distances",
    "estimate",
    "histogram",
    "inefficiency",
    "kubo_autocorrelation",
    "lifetimes",
    "mean_square_displacement",
    "quantum_energies",
    "radial_distribution",
    "radius_of_gyration",
    "summary",
    "survival",
    "time_to_failure",
    "topology",
    "velocity_autocorrelation",
]

"""What one reads off a run: averages with errors, structure, motion, stability."""

from jaxff.analysis.geometry import angles, dihedrals, distances, histogram, topology
from jaxff.analysis.lifetimes import Lifetimes, lifetimes
from jaxff.analysis.motion import Diffusion, diffusion, mean_square_displacement
from jaxff.analysis.path_integrals import (
    QuantumEnergies,
    centroids,
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
    "Diffusion",
    "Estimate",
    "Lifetimes",
    "QuantumEnergies",
    "RadialDistribution",
    "Survival",
    "angles",
    "blocking",
    "centroids",
    "correlation_time",
    "diffusion",
    "dihedrals",
    "distances",
    "estimate",
    "histogram",
    "inefficiency",
    "lifetimes",
    "mean_square_displacement",
    "quantum_energies",
    "radial_distribution",
    "radius_of_gyration",
    "summary",
    "survival",
    "time_to_failure",
    "topology",
]

"""What one reads off a run: averages with errors, structure, motion, stability."""

from jaxff.analysis.free_energy import (
    Minimum,
    Population,
    Surface,
    chirality,
    free_energy_surface,
    inversions,
    jensen_shannon,
    kullback_leibler,
    mean_squared_difference,
    minima,
    populations,
)
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
    "Minimum",
    "Population",
    "QuantumEnergies",
    "RadialDistribution",
    "Surface",
    "Survival",
    "angles",
    "arrhenius",
    "blocking",
    "centroids",
    "chirality",
    "correlation_time",
    "diffusion",
    "dihedrals",
    "distances",
    "estimate",
    "free_energy_surface",
    "histogram",
    "inefficiency",
    "inversions",
    "jensen_shannon",
    "kubo_autocorrelation",
    "kullback_leibler",
    "lifetimes",
    "mean_square_displacement",
    "mean_squared_difference",
    "minima",
    "populations",
    "quantum_energies",
    "radial_distribution",
    "radius_of_gyration",
    "summary",
    "survival",
    "time_to_failure",
    "topology",
    "velocity_autocorrelation",
]

"""Molecular dynamics on jax-md."""

from jaxff.dynamics.ensembles import Ensemble, langevin, nve
from jaxff.dynamics.jax_md import to_jax_md
from jaxff.dynamics.observables import (
    Drift,
    angular_momentum,
    degrees_of_freedom,
    energy_drift,
    kinetic_energy,
    temperature,
    total_momentum,
)
from jaxff.dynamics.progress import progress_bar
from jaxff.dynamics.run import UnstableRunError, run
from jaxff.dynamics.shadow import shadow_energy
from jaxff.dynamics.trajectory import Restart, Trajectory, Writer, read_restart
from jaxff.dynamics.velocities import maxwell_boltzmann

__all__ = [
    "Drift",
    "Ensemble",
    "Restart",
    "Trajectory",
    "UnstableRunError",
    "Writer",
    "angular_momentum",
    "degrees_of_freedom",
    "energy_drift",
    "kinetic_energy",
    "langevin",
    "maxwell_boltzmann",
    "nve",
    "progress_bar",
    "read_restart",
    "run",
    "shadow_energy",
    "temperature",
    "to_jax_md",
    "total_momentum",
]

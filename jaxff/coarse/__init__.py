"""Coarse-grained force fields: maps, priors, sampling, models of mean forces."""

from jaxff.coarse.checks import check_units, virial_ratio
from jaxff.coarse.ensemble import (
    Bagged,
    Layer,
    TwoLayers,
    bag,
    fit_two_layers,
    predict_forces,
)
from jaxff.coarse.force_maps import basic_force_map, optimal_force_map, rigid_pairs
from jaxff.coarse.inducing import (
    Inducing,
    NormalEquations,
    fit_inducing,
    normal_equations,
    solve,
)
from jaxff.coarse.mapping import LinearMap, centers_of_mass, linear_map, slices
from jaxff.coarse.network import Network, fit_network
from jaxff.coarse.priors import (
    fit_prior,
    harmonic_angles,
    harmonic_bonds,
    invert_angles,
    invert_bonds,
    repulsion,
    restore,
    subtract,
    torsions,
)
from jaxff.coarse.sampling import (
    Fold,
    Sizes,
    block_folds,
    cells,
    draw,
    draw_batches,
    noise_ratio,
    sizes,
)
from jaxff.coarse.search import descend
from jaxff.coarse.selection import (
    Parts,
    Score,
    best,
    cross_validate,
    decompose,
    lengthscales,
    regularize,
    scan,
)

__all__ = [
    "Bagged",
    "Fold",
    "Inducing",
    "Layer",
    "LinearMap",
    "Network",
    "NormalEquations",
    "Parts",
    "Score",
    "Sizes",
    "TwoLayers",
    "bag",
    "basic_force_map",
    "best",
    "block_folds",
    "cells",
    "centers_of_mass",
    "check_units",
    "cross_validate",
    "decompose",
    "descend",
    "draw",
    "draw_batches",
    "fit_inducing",
    "fit_network",
    "fit_prior",
    "fit_two_layers",
    "harmonic_angles",
    "harmonic_bonds",
    "invert_angles",
    "invert_bonds",
    "lengthscales",
    "linear_map",
    "noise_ratio",
    "normal_equations",
    "optimal_force_map",
    "predict_forces",
    "regularize",
    "repulsion",
    "restore",
    "rigid_pairs",
    "scan",
    "sizes",
    "slices",
    "solve",
    "subtract",
    "torsions",
    "virial_ratio",
]

"""Coarse-grained force fields: maps, priors, sampling, models of mean forces."""

from jaxff.coarse.checks import check_units, virial_ratio
from jaxff.coarse.mapping import (
    LinearMap,
    basic_force_map,
    centers_of_mass,
    linear_map,
    optimal_force_map,
    rigid_pairs,
    slices,
)
from jaxff.coarse.priors import (
    fit_prior,
    harmonic_angles,
    harmonic_bonds,
    invert_angles,
    invert_bonds,
    repulsion,
    restore,
    subtract,
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

__all__ = [
    "Fold",
    "LinearMap",
    "Sizes",
    "basic_force_map",
    "block_folds",
    "cells",
    "centers_of_mass",
    "check_units",
    "draw",
    "draw_batches",
    "fit_prior",
    "harmonic_angles",
    "harmonic_bonds",
    "invert_angles",
    "invert_bonds",
    "linear_map",
    "noise_ratio",
    "optimal_force_map",
    "repulsion",
    "restore",
    "rigid_pairs",
    "sizes",
    "slices",
    "subtract",
    "virial_ratio",
]

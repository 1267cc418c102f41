"""Gradient-domain machine learning: kernels fitted to forces."""

from jaxff.gdml.constant import ConstantFit, fit_constant
from jaxff.gdml.fit import FitInfo, fit, residual_labels
from jaxff.gdml.potential import KernelPotential, potential
from jaxff.gdml.tune import Trial, Tuning, tune

__all__ = [
    "ConstantFit",
    "FitInfo",
    "KernelPotential",
    "Trial",
    "Tuning",
    "fit",
    "fit_constant",
    "potential",
    "residual_labels",
    "tune",
]

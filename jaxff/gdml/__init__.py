"""Gradient-domain machine learning: kernels fitted to forces."""

from jaxff.gdml.constant import ConstantFit, fit_constant
from jaxff.gdml.fit import FitInfo, UnconvergedError, fit, residual_labels
from jaxff.gdml.hyper import Descent, descend, log_likelihood, problem, validation_error
from jaxff.gdml.inference import Posterior, VarianceBound, posterior
from jaxff.gdml.observable import Observable
from jaxff.gdml.potential import KernelPotential, potential
from jaxff.gdml.tune import Trial, Tuning, tune

__all__ = [
    "ConstantFit",
    "Descent",
    "FitInfo",
    "KernelPotential",
    "Observable",
    "Posterior",
    "Trial",
    "Tuning",
    "UnconvergedError",
    "VarianceBound",
    "descend",
    "fit",
    "fit_constant",
    "log_likelihood",
    "posterior",
    "potential",
    "problem",
    "residual_labels",
    "tune",
    "validation_error",
]

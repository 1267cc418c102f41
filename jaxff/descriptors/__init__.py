"""Descriptors: differentiable functions from a system to features."""

from jaxff.descriptors.inverse_distances import InverseDistances, inverse_distances

__all__ = ["InverseDistances", "inverse_distances"]

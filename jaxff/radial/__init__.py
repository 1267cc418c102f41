"""Functions of the distance between atoms."""

from jaxff.radial import basis, cutoffs, interpolation

__all__ = ["basis", "cutoffs", "interpolation"]

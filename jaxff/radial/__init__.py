"""Functions of the distance between atoms."""

from jaxff.radial import basis, cutoffs

__all__ = ["basis", "cutoffs"]

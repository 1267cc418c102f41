"""Functions of the distance between atoms."""

from jaxff.radial import cutoffs

__all__ = ["cutoffs"]

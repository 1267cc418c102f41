"""Operators, solvers and preconditioners of kernel systems."""

from jaxff.linalg import solvers

__all__ = ["solvers"]

"""Operators, solvers and preconditioners of kernel systems."""

from jaxff.linalg import preconditioners, solvers

__all__ = ["preconditioners", "solvers"]

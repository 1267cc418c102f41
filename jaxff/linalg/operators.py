"""What every solver and preconditioner sees of a kernel matrix."""

from typing import Protocol

import numpy as np

from jaxff.types import Array, Float

__all__ = ["KernelOperator"]


class KernelOperator(Protocol):
    """A symmetric positive semidefinite matrix, known by its actions.

    Attributes:
        size: Number of rows n.
    """

    @property
    def size(self) -> int: ...

    def matvec(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """Product with a vector, without forming the matrix."""
        ...

    def diagonal(self) -> Float[Array, " n"]:
        """The diagonal."""
        ...

    def columns(self, index: np.ndarray) -> Float[Array, "n columns"]:
        """Selected columns."""
        ...

    def dense(self, *, lower: bool = False) -> np.ndarray:
        """The matrix in column order, in host memory; with ``lower`` its upper triangle is left untouched."""
        ...

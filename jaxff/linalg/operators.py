"""What every solver and preconditioner sees of a kernel matrix."""

from collections.abc import Callable
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
    def size(self) -> int:
        """Number of rows n."""
        ...

    def matvec(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """Product with a vector, without forming the matrix."""
        ...

    def diagonal(self) -> Float[Array, " n"]:
        """The diagonal."""
        ...

    def columns(self, index: np.ndarray) -> Float[np.ndarray, "n columns"]:
        """Selected columns in column order, in host memory, new every time."""
        ...

    def dense(
        self, *, lower: bool = False, progress: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """The matrix in column order, in host memory.

        With ``lower`` its upper triangle is left untouched. ``progress`` is called with the part
        that is done, between 0 and 1.
        """
        ...

"""Array aliases shared by every room."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Bool, Complex, Float, Int, PyTree

__all__ = ["Array", "Bool", "Complex", "Float", "Int", "Outputs", "Params", "PyTree"]

Params = PyTree[Any, "..."]
"""Parameters of a potential: any pytree of arrays."""

Outputs = Mapping[str, Array]
"""Outputs of a potential by name; ``"energy"`` is always present."""

"""Training and testing of potentials."""

from jaxff.training.leakage import shared_geometries
from jaxff.training.metrics import errors, predict, table

__all__ = ["errors", "predict", "shared_geometries", "table"]

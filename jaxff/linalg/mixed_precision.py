r"""Products in float32 within a solve in float64: when they may be used, and when to stop.

A product that is wrong by :math:`\epsilon\lVert p\rVert` shifts eigenvalues by up to
:math:`\epsilon`. Where that exceeds the diagonal :math:`D`, the rounded system need not be positive
definite, and its preconditioned form is off by :math:`\epsilon/D`: no replacement of residuals
repairs that. So the error is measured first, and float32 is used only well below the diagonal.

Reference:
    van der Vorst & Ye, SIAM J. Sci. Comput. 22, 835 (2000), doi:10.1137/S1064827599353865 (residual
    replacement); Clark et al., Comput. Phys. Commun. 181, 1517 (2010),
    doi:10.1016/j.cpc.2010.05.002 (mixed precision).
"""

import logging
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import agree, mesh_of

__all__ = ["GAIN", "MARGIN", "Products", "is_lost"]

MARGIN = 4.0
"""How often the diagonal must exceed the error of a product; ethanol, 60 references: with 7 the
iterations are a third more than in float64 at a residual of 1e-4, with 0.7 they stagnate."""

GAIN = 0.1
"""Fall of the residual after which it is replaced by a fresh one."""

_GROWTH = 100.0
"""Growth of the residual since the last replacement that means failure."""

_LOG = logging.getLogger("jaxff")


class Products:
    """Which product a solve uses at present.

    Attributes:
        operator: In float64.
        current: The one to use: ``operator``, or its form in float32.
        note: What happened, for the report; empty in plain float64.
    """

    def __init__(self, precision: str, operator: KernelOperator, diagonal: np.ndarray):
        self.operator = self.current = operator
        self.note = ""
        if precision == "float64":
            return
        lowered = getattr(operator, "lowered", None)
        if lowered is None:
            raise ValueError(
                f"product='float32' needs an operator with a lowered() form, got "
                f"{type(operator).__name__}: leave product at 'float64'"
            )
        self.current, self.note = lowered(), "products in float32"
        error, least = self._error(), float(np.min(diagonal))
        if not least >= MARGIN * error:
            self.fall_back(
                f"their error, {error:.1e}, would need a regularization of {MARGIN * error:.1e} "
                f"at least, it is {least:.1e}"
            )

    def _error(self) -> float:
        """Error of a product with a random vector, relative to the vector."""
        vector = jnp.asarray(np.random.default_rng(0).normal(size=self.operator.size))
        wrong: Any = self.current.matvec(vector) - self.operator.matvec(vector)
        norm = jnp.linalg.norm(wrong) / jnp.linalg.norm(vector)
        return float(agree(mesh_of(self.operator), norm))

    def prepare(self, memory: float) -> None:
        """Let the operator keep what all its products share, within these bytes."""
        prepared = getattr(self.operator, "prepared", None)
        if prepared is None or self.lowered:
            return
        self.operator = self.current = prepared(memory)

    @property
    def lowered(self) -> bool:
        """Whether products are in float32 now."""
        return self.current is not self.operator

    def fall_back(self, reason: str) -> None:
        """Use float64 from now on."""
        self.current = self.operator
        self.note = f"products in float64 instead of float32: {reason}"
        _LOG.warning("%s", self.note)


def is_lost(worst: float, verified: float) -> bool:
    """Whether a residual has grown so much since it was last verified that it is lost."""
    return not worst <= _GROWTH * verified

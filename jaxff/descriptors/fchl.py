"""The representation of Faber, Christensen, Huang and von Lilienfeld, in its form of 2019."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.acsf import cosines, per_element
from jaxff.descriptors.atom_centred import WithCutoffFunction
from jaxff.descriptors.environments import (
    Surroundings,
    check_cutoff,
    cutoff_function,
    surroundings,
)
from jaxff.elements import distinct_numbers
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["FCHL19", "fchl19"]

_WIDTHS = (
    "two_body_width",
    "two_body_decay",
    "three_body_width",
    "three_body_decay",
    "three_body_weight",
    "angular_width",
)


@dataclass(frozen=True)
class FCHL19(WithCutoffFunction):
    r"""Descriptor: log-normal functions of distances; Fourier terms of angles.

    Two-body, per element, at the radii :math:`R_s` (equidistant up to the cutoff):
    :math:`\sum_j \frac{f(d)}{d^{N_2}} \frac{1}{R_s\sigma\sqrt{2\pi}}
    e^{-(\ln R_s-\mu)^2/2\sigma^2}` with :math:`\sigma^2 = \ln(1+\eta_2/d^2)` and :math:`\mu = \ln d
    - \tfrac12\sigma^2`.

    Three-body, per pair of elements: :math:`\sum_{j<k} w\sqrt{\eta_3/\pi}\,\frac{1 + 3\cos\theta_i
    \cos\theta_j\cos\theta_k}{(d_{ij}d_{ik}d_{jk})^{N_3}} f(d_{ij})f(d_{ik})\,
    e^{-\eta_3(\frac12(d_{ij}+d_{ik})-R_s)^2} A(\theta_i)` with :math:`A = 2e^{-(\zeta o)^2/2}
    (\cos o\theta, \sin o\theta)`, o = 1, 3, ….

    The sine has a cone at straight angles; by default :math:`\sin\theta` is replaced by
    :math:`\sqrt{\sin^2\theta + s^2}` with the ``softening`` s. Both parts diverge where atoms
    coincide; atoms in exactly one place contribute nothing.

    Features ``(atoms, size)``: per element the radii; then for pairs of elements (0,0), (0,1), …,
    (1,1), … the radii, of each cosine and sine.

    Attributes:
        elements: Atomic numbers, in the order of the features.
        radial_cutoff: Radius in Å of the two-body part.
        radial_functions: Number of its radii.
        angular_cutoff: Radius in Å of the three-body part.
        angular_functions: Number of its radii.
        orders: Number of Fourier terms.
        two_body_width: η₂ in Å².
        two_body_decay: N₂.
        three_body_width: η₃ in Å⁻².
        three_body_decay: N₃.
        three_body_weight: w.
        angular_width: ζ.
        cutoff_function: ``"bump"`` (all derivatives are continuous), ``"polynomial"`` or
            ``"smoothstep"`` (two are) or ``"cosine"`` (as published: the second jumps).
        softening: Of the sines; 0 as published.
        max_neighbors: Slots for neighbours, needed in compiled code for periodic systems whose
            lists have no rows; more neighbours give NaN.

    Reference:
        Christensen et al., J. Chem. Phys. 152, 044107 (2020), doi:10.1063/1.5126701.
    """

    elements: tuple[int, ...]
    radial_cutoff: float = 8.0
    radial_functions: int = 24
    angular_cutoff: float = 8.0
    angular_functions: int = 20
    orders: int = 1
    two_body_width: float = 0.32
    two_body_decay: float = 1.8
    three_body_width: float = 2.7
    three_body_decay: float = 0.57
    three_body_weight: float = 13.4
    angular_width: float = float(np.pi)
    cutoff_function: str = "bump"
    softening: float = 0.1
    max_neighbors: int | None = None

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å of the lists that it takes."""
        return tuple(sorted({self.radial_cutoff, self.angular_cutoff}))

    @property
    def size(self) -> int:
        """Features per atom."""
        count = len(self.elements)
        angular = self.angular_functions * 2 * self.orders
        return count * self.radial_functions + count * (count + 1) // 2 * angular

    @property
    def smoothness(self) -> float:
        """Number of derivatives that are continuous at the cutoff and at straight angles."""
        return 0 if self.softening == 0 else super().smoothness

    def __call__(
        self,
        system: System,
        neighbors: Any = None,
        *,
        two_body_width: Float[Array, ""] | float | None = None,
        two_body_decay: Float[Array, ""] | float | None = None,
        three_body_width: Float[Array, ""] | float | None = None,
        three_body_decay: Float[Array, ""] | float | None = None,
        three_body_weight: Float[Array, ""] | float | None = None,
        angular_width: Float[Array, ""] | float | None = None,
    ) -> Float[Array, "atoms features"]:
        """Features of a single system or a pack.

        Args:
            system: Atoms of the listed elements.
            neighbors: Lists for ``cutoffs``; ``None`` for all pairs of a molecule.
            two_body_width: Takes the place of the attribute, so that it can be optimised.
            two_body_decay: Likewise.
            three_body_width: Likewise.
            three_body_decay: Likewise.
            three_body_weight: Likewise.
            angular_width: Likewise.
        """
        given = (two_body_width, two_body_decay, three_body_width, three_body_decay)
        given = (*given, three_body_weight, angular_width)
        settings = {
            name: getattr(self, name) if value is None else value
            for name, value in zip(_WIDTHS, given, strict=True)
        }
        near = self._near(system, neighbors, self.radial_cutoff)
        two = per_element(near.species, self._two_body(near, settings))
        if self.angular_cutoff != self.radial_cutoff:
            near = self._near(system, neighbors, self.angular_cutoff)
        return jnp.concatenate([two, self._three_body(near, settings)], axis=-1)

    def _near(self, system: System, neighbors: Any, cutoff: float) -> Surroundings:
        return surroundings(system, cutoff, self.elements, neighbors, self.max_neighbors)

    def _two_body(self, near: Surroundings, settings: dict[str, Any]) -> Array:
        values = cutoff_function(self.cutoff_function, near.distances, self.radial_cutoff)
        distances, real = _positive(near.distances)
        variance = jnp.log1p(settings["two_body_width"] / distances**2)
        mean = jnp.log(distances) - 0.5 * variance
        radii = jnp.asarray(_grid(self.radial_cutoff, self.radial_functions), distances.dtype)
        exponent = (jnp.log(radii) - mean[..., None]) ** 2 / (2.0 * variance[..., None])
        height = values * distances ** -settings["two_body_decay"]
        height = jnp.where(real, height / jnp.sqrt(2.0 * jnp.pi * variance), 0.0)
        return height[..., None] * jnp.exp(-exponent) / radii

    def _three_body(self, near: Surroundings, settings: dict[str, Any]) -> Array:
        values = cutoff_function(self.cutoff_function, near.distances, self.angular_cutoff)
        lengths, real = _positive(near.distances)
        third = safe_norm(near.vectors[:, :, None] - near.vectors[:, None, :])
        opposite, apart = _positive(third)
        first, second = lengths[:, :, None], lengths[:, None, :]
        cosine = cosines(near)
        # the other two angles of the triangle
        others = (first - second * cosine) * (second - first * cosine) / opposite**2
        decay = (first * second * opposite) ** -settings["three_body_decay"]
        weight = settings["three_body_weight"] * jnp.sqrt(settings["three_body_width"] / jnp.pi)
        height = weight * decay * (1.0 + 3.0 * cosine * others)
        height = height * values[:, :, None] * values[:, None, :]
        height = jnp.where(apart & real[:, :, None] & real[:, None, :], height, 0.0)
        radii = jnp.asarray(_grid(self.angular_cutoff, self.angular_functions), lengths.dtype)
        mean = 0.5 * (first + second)
        bells = jnp.exp(-settings["three_body_width"] * (mean[..., None] - radii) ** 2)
        waves = self._waves(cosine, settings["angular_width"]) * height[..., None]
        half = jnp.einsum("ajkr,ajkq,akt->ajrqt", bells, waves, near.species)
        summed = jnp.einsum("ajs,ajrqt->astrq", near.species, half)
        rows, columns = np.triu_indices(len(self.elements))
        # of equal elements, each pair stands twice
        once = jnp.asarray(np.where(rows == columns, 0.5, 1.0), lengths.dtype)
        return (summed[:, rows, columns] * once[:, None, None]).reshape(len(summed), -1)

    def _waves(self, cosine: Array, width: Any) -> Float[Array, "*pairs waves"]:
        """Cosines and sines of odd multiples of the angle, by Chebyshev recurrences."""
        remainder = 1.0 - cosine**2 + self.softening**2
        positive = remainder > 0.0  # rounding may leave a straight angle just below
        root = jnp.sqrt(jnp.where(positive, remainder, 1.0))
        sine = jnp.where(positive, root, 0.0)
        double = 2.0 * (2.0 * cosine**2 - 1.0)
        even, odd = [cosine, cosine], [-sine, sine]  # of orders -1 and 1
        waves = []
        for k in range(self.orders):
            order = 2 * k + 1
            scale = 2.0 * jnp.exp(-0.5 * (width * order) ** 2)
            waves += [scale * even[-1], scale * odd[-1]]
            even.append(double * even[-1] - even[-2])
            odd.append(double * odd[-1] - odd[-2])
        return jnp.stack(waves, axis=-1)


def _positive(distances: Array) -> tuple[Array, Array]:
    """Distances with 1 in place of 0, and where they are not 0."""
    real = distances > 0.0
    return jnp.where(real, distances, 1.0), real


def _grid(cutoff: float, count: int) -> np.ndarray:
    return cutoff * np.arange(1, count + 1) / count


def fchl19(
    elements: Sequence[str | int] | str | int,
    *,
    radial_cutoff: float = 8.0,
    angular_cutoff: float = 8.0,
    cutoff_function: str = "bump",
    softening: float = 0.1,
    max_neighbors: int | None = None,
    **settings: float,
) -> FCHL19:
    """The representation FCHL19; see :class:`FCHL19`, whose other attributes go by name.

    Raises:
        ValueError: For settings that make no sense.
        TypeError: For one that is unknown.
    """
    check_cutoff(radial_cutoff, cutoff_function)
    check_cutoff(angular_cutoff, cutoff_function)
    if not softening >= 0.0:
        raise ValueError(f"softening must not be negative, got {softening}")
    for name, value in settings.items():
        least = 1 if name in ("radial_functions", "angular_functions", "orders") else 0
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    return FCHL19(
        distinct_numbers(elements),
        radial_cutoff=float(radial_cutoff),
        angular_cutoff=float(angular_cutoff),
        cutoff_function=cutoff_function,
        softening=float(softening),
        max_neighbors=max_neighbors,
        **settings,  # pyright: ignore[reportArgumentType]
    )

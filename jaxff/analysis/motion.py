"""Mean square displacement, velocity autocorrelation, diffusion and how it is activated."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxff import units
from jaxff.types import Float

__all__ = [
    "Arrhenius",
    "Diffusion",
    "arrhenius",
    "diffusion",
    "mean_square_displacement",
    "velocity_autocorrelation",
]


class Diffusion(NamedTuple):
    """A diffusion coefficient in Å²/fs and its standard error over replicas or blocks."""

    coefficient: float
    standard_error: float

    @property
    def square_centimetres_per_second(self) -> float:
        """The coefficient in cm²/s."""
        return 0.1 * self.coefficient


class Arrhenius(NamedTuple):
    r"""Diffusion :math:`D = D_0\, e^{-E_a/k_B T}` over a range of temperatures.

    Attributes:
        activation_energy: :math:`E_a` in eV.
        activation_error: Its standard error.
        prefactor: :math:`D_0` in Å²/fs.
        prefactor_ratio: The factor by which :math:`D_0` is uncertain, its standard error in
            logarithm.
        chi_square: Squared residuals over their variances, per degree of freedom: far above 1 the
            line is bent, as tunnelling bends it, or errors are too small. NaN for two temperatures.
    """

    activation_energy: float
    activation_error: float
    prefactor: float
    prefactor_ratio: float
    chi_square: float

    def coefficient(self, temperature: Any) -> Any:
        """Diffusion coefficient in Å²/fs at a temperature in K."""
        return self.prefactor * np.exp(
            -self.activation_energy / (units.BOLTZMANN * np.asarray(temperature, float))
        )


def mean_square_displacement(
    positions: Any, *, masses: Any = None, atoms: Any = None
) -> Float[np.ndarray, " lags"]:
    r"""Mean square displacement in Å² at every lag, over all atoms and time origins.

    Args:
        positions: Å, ``(frames, atoms, 3)``, not wrapped into the cell.
        masses: Given, the motion of the centre of mass is taken out first.
        atoms: Which atoms count, as indices or a mask; by default all.

    Reference:
        Calandrini et al., Collection SFN 12, 201 (2011), doi:10.1051/sfn/201112010 (by Fourier
        transforms, in N log N).
    """
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 3 or positions.shape[-1] != 3 or not len(positions):
        raise ValueError(f"positions must have the shape (frames, atoms, 3), got {positions.shape}")
    if masses is not None:
        weights = np.asarray(masses, np.float64)
        center = np.einsum("fax,a->fx", positions, weights) / weights.sum()
        positions = positions - center[:, None]
    if atoms is not None:
        positions = positions[:, np.asarray(atoms)]
    # The mean of each coordinate is arbitrary; without it no digits are lost.
    positions = positions - positions.mean(axis=0)
    frames = len(positions)
    product = _products(positions)
    square = np.sum(positions**2, axis=-1)
    ends = np.concatenate([np.zeros((1, square.shape[1])), np.cumsum(square, axis=0)])
    lags = np.arange(frames)
    # sums of |r(t)|² over the first and over the last frames - lag frames
    both = ends[frames - lags] + ends[frames] - ends[lags]
    values = (both - 2.0 * product) / (frames - lags)[:, None]
    return np.clip(values.mean(axis=1), 0.0, None)


def _products(series: Float[np.ndarray, "frames atoms 3"]) -> Float[np.ndarray, "lags atoms"]:
    """Sums over time origins of products with itself at every lag."""
    frames = len(series)
    transform = np.fft.rfft(series, 2 * frames, axis=0)
    return np.fft.irfft(np.abs(transform) ** 2, axis=0)[:frames].sum(axis=-1)


def velocity_autocorrelation(velocities: Any, *, atoms: Any = None) -> Float[np.ndarray, " lags"]:
    r"""Velocity autocorrelation :math:`\langle v(0)\cdot v(t)\rangle` in Å²/fs² at every lag.

    The mean over atoms and time origins. A third of its integral is the diffusion coefficient (the
    relation of Green and Kubo); of an atom at temperature T it begins at :math:`3 k_B T/m`.

    Args:
        velocities: Å/fs, ``(frames, atoms, 3)``.
        atoms: Which atoms count, as indices or a mask; by default all.
    """
    velocities = np.asarray(velocities, np.float64)
    if velocities.ndim != 3 or velocities.shape[-1] != 3 or not len(velocities):
        raise ValueError(
            f"velocities must have the shape (frames, atoms, 3), got {velocities.shape}"
        )
    if atoms is not None:
        velocities = velocities[:, np.asarray(atoms)]
    origins = len(velocities) - np.arange(len(velocities))
    return _products(velocities).mean(axis=1) / origins


def diffusion(
    positions: Any,
    interval: float,
    *,
    masses: Any = None,
    atoms: Any = None,
    dimensions: int = 3,
    window: tuple[float, float] = (0.1, 0.5),
    blocks: int = 4,
) -> Diffusion:
    """Diffusion coefficient by Einstein's relation, in space a sixth of the slope.

    The slope is fitted to each of several blocks of the run; their spread gives the error.

    Args:
        positions: Å, ``(frames, atoms, 3)``, not wrapped into the cell.
        interval: Time between frames in fs.
        masses: Given, the motion of the centre of mass is taken out first. Of N equal atoms that
            all diffuse this takes the share 1/N of the coefficient too.
        atoms: Which atoms count, as indices or a mask; by default all.
        dimensions: In how many directions they diffuse; 2 on a surface, where motion along its
            normal stays bounded.
        window: Lags that are fitted, as shares of the length of a block.
        blocks: Number of blocks, at least 2.

    Raises:
        ValueError: If the run is too short, the interval is not positive, the window is not within
            0 and 1, or dimensions are not 1, 2 or 3.
    """
    if dimensions not in (1, 2, 3):
        raise ValueError(f"dimensions must be 1, 2 or 3, got {dimensions}")
    if not 0.0 < interval < float("inf"):
        raise ValueError(f"interval must be a positive time between frames in fs, got {interval}")
    if not 0.0 <= window[0] < window[1] <= 1.0:
        raise ValueError(f"window must be two shares of a block in order, 0 to 1, got {window}")
    positions = np.asarray(positions, np.float64)
    length = len(positions) // blocks if blocks > 1 else 0
    first, last = (int(share * length) for share in window)
    if last - first < 3:
        raise ValueError(
            f"{len(positions)} frames in {blocks} blocks leave {last - first} lags to fit: run "
            "longer, or use fewer blocks (at least 2)"
        )
    lags = np.arange(first, last) * interval
    slopes = [
        np.polyfit(lags, mean_square_displacement(part, masses=masses, atoms=atoms)[first:last], 1)[
            0
        ]
        for part in (positions[k * length : (k + 1) * length] for k in range(blocks))
    ]
    found = np.array(slopes) / (2.0 * dimensions)
    return Diffusion(float(found.mean()), float(found.std(ddof=1) / np.sqrt(blocks)))


def arrhenius(temperatures: Any, coefficients: Sequence[Diffusion]) -> Arrhenius:
    r"""Activation energy of diffusion: a line through :math:`\ln D` over :math:`1/k_B T`.

    Points weigh by their standard errors, from which those of the line follow.

    Args:
        temperatures: K, at least two different ones.
        coefficients: Diffusion at each of them.

    Raises:
        ValueError: If numbers do not fit, or a coefficient is not positive and known with an error.
    """
    kelvin = np.asarray(temperatures, np.float64)
    if kelvin.shape != (len(coefficients),) or len(np.unique(kelvin)) < 2 or not kelvin.min() > 0:
        raise ValueError(
            "expected a positive temperature for each coefficient, at least two different ones, "
            f"got {kelvin.tolist()} for {len(coefficients)} coefficients"
        )
    value, error = (np.array([each[k] for each in coefficients], float) for k in (0, 1))
    if not (np.all(value > 0) and np.all(error > 0) and np.isfinite(value + error).all()):
        raise ValueError(
            f"coefficients and their errors must be positive, got {value.tolist()} and "
            f"{error.tolist()}: run longer where an atom did not diffuse"
        )
    inverse, width = 1.0 / (units.BOLTZMANN * kelvin), error / value
    design = np.stack([-inverse, np.ones_like(inverse)], axis=1) / width[:, None]
    covariance = np.linalg.inv(design.T @ design)
    energy, logarithm = covariance @ design.T @ (np.log(value) / width)
    residual = np.log(value) / width - design @ np.array([energy, logarithm])
    free = len(value) - 2
    return Arrhenius(
        float(energy),
        float(np.sqrt(covariance[0, 0])),
        float(np.exp(logarithm)),
        float(np.exp(np.sqrt(covariance[1, 1]))),
        float(residual @ residual / free) if free else float("nan"),
    )

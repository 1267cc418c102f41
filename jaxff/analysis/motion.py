"""Mean square displacement and diffusion."""

from typing import Any, NamedTuple

import numpy as np

from jaxff.types import Float

__all__ = ["Diffusion", "diffusion", "mean_square_displacement"]


class Diffusion(NamedTuple):
    """A diffusion coefficient in Å²/fs and its standard error over replicas or blocks."""

    coefficient: float
    standard_error: float

    @property
    def square_centimetres_per_second(self) -> float:
        """The coefficient in cm²/s."""
        return 0.1 * self.coefficient


def mean_square_displacement(positions: Any, *, masses: Any = None) -> Float[np.ndarray, " lags"]:
    r"""Mean square displacement in Å² at every lag, over all atoms and time origins.

    Args:
        positions: Å, ``(frames, atoms, 3)``, not wrapped into the cell.
        masses: Given, the motion of the centre of mass is taken out first.

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
    # The mean of each coordinate is arbitrary; without it no digits are lost.
    positions = positions - positions.mean(axis=0)
    frames = len(positions)
    transform = np.fft.rfft(positions, 2 * frames, axis=0)
    product = np.fft.irfft(np.abs(transform) ** 2, axis=0)[:frames].sum(axis=-1)
    square = np.sum(positions**2, axis=-1)
    ends = np.concatenate([np.zeros((1, square.shape[1])), np.cumsum(square, axis=0)])
    lags = np.arange(frames)
    # sums of |r(t)|² over the first and over the last frames - lag frames
    both = ends[frames - lags] + ends[frames] - ends[lags]
    values = (both - 2.0 * product) / (frames - lags)[:, None]
    return np.clip(values.mean(axis=1), 0.0, None)


def diffusion(
    positions: Any,
    interval: float,
    *,
    masses: Any = None,
    window: tuple[float, float] = (0.1, 0.5),
    blocks: int = 4,
) -> Diffusion:
    """Diffusion coefficient by Einstein's relation, a sixth of the slope.

    The slope is fitted to each of several blocks of the run; their spread gives the error.

    Args:
        positions: Å, ``(frames, atoms, 3)``, not wrapped into the cell.
        interval: Time between frames in fs.
        masses: Given, the motion of the centre of mass is taken out first.
        window: Lags that are fitted, as shares of the length of a block.
        blocks: Number of blocks, at least 2.

    Raises:
        ValueError: If the run is too short.
    """
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
        np.polyfit(lags, mean_square_displacement(part, masses=masses)[first:last], 1)[0]
        for part in (positions[k * length : (k + 1) * length] for k in range(blocks))
    ]
    found = np.array(slopes) / 6.0
    return Diffusion(float(found.mean()), float(found.std(ddof=1) / np.sqrt(blocks)))

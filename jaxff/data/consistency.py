"""Do energies and forces belong together? A diagnostic that needs no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxff import units
from jaxff.data.dataset import Dataset
from jaxff.elements import covalent_radii

# Ratios that a wrong unit of energy, of length, or of both puts between energies and forces.
_RATIOS = {
    "eV and kcal/mol": units.KCAL_PER_MOL,
    "eV and kJ/mol": units.KJ_PER_MOL,
    "eV and hartree": units.HARTREE,
    "hartree and kcal/mol": units.HARTREE / units.KCAL_PER_MOL,
    "kcal/mol and kJ/mol": 4.184,
    "bohr and Å": units.BOHR,
    "hartree/bohr and eV/Å": units.HARTREE / units.BOHR,
    "hartree/bohr and kcal/mol/Å": units.HARTREE / units.BOHR / units.KCAL_PER_MOL,
    "meV and eV": 1e-3,
    "nm and Å": 10.0,
}
_TOLERANCE = 0.15  # of the logarithm of a ratio

# Error of the trapezoidal work over how far the step is from linear, medians over pairs.  Measured:
# below 0.13 in nineteen published sets, whole or thinned to 200 frames, 0.67 and more with shuffled
# forces, above 0.36 with shuffled energies of molecules with neighbours nearer than 0.13 Å.
_SMALL, _LARGE = 0.1, 0.3
_BONDED = (0.7, 1.6)  # a wrong bohr or Å moves 1 to 0.53 or 1.89
_NOBLE = (0, 2, 10, 18, 36, 54, 86)
_FAR = 0.3  # Å rms per atom: beyond it nothing is known of the error


@dataclass(frozen=True)
class Consistency:
    """Comparison of energy differences with the work of the forces between near frames.

    Attributes:
        slope: Least-squares slope of energy difference on work; 1 where both agree.
        r2: Squared correlation of the two.
        pairs: Number of pairs of frames that were compared.
        distance: Median rms displacement per atom between paired frames, Å.
        verdict: ``"consistent"``, ``"sign"``, ``"units"``, ``"contradictory"`` or ``"undecided"``.
        message: The verdict in a sentence, with the remedy.
    """

    slope: float
    r2: float
    pairs: int
    distance: float
    verdict: str
    message: str

    @property
    def is_contradiction(self) -> bool:
        """Whether the labels certainly do not belong together."""
        return self.verdict in ("sign", "units", "contradictory")


def consistency(dataset: Dataset, *, max_frames: int = 1000, seed: int = 0) -> Consistency:
    r"""Compare :math:`E_j - E_i` with the work :math:`-\tfrac12 (F_i + F_j)\cdot(R_j - R_i)`.

    Each of up to ``max_frames`` frames is paired with its nearest neighbour in the data set. The
    trapezoidal rule is exact to third order in the displacement, so near frames settle sign and
    units; where frames are too far apart to tell, the verdict is ``"undecided"``, not an error.

    Args:
        dataset: Frames; without energies or forces the verdict is ``"undecided"``.
        max_frames: Number of frames whose neighbours are sought.
        seed: Seed of their choice.
    """
    missing = [name for name in ("energy", "forces") if name not in dataset.values]
    if missing:
        return _undecided(0, f"no {' and no '.join(missing)} to compare")
    if len(dataset) < 2:
        return _undecided(0, f"only {len(dataset)} frames to compare")
    first, second, step = _nearest(dataset, max_frames, seed)
    if len(first) < 5:
        return _undecided(len(first), f"only {len(first)} pairs of frames to compare")
    distance = np.sqrt(np.mean(np.sum(step**2, axis=-1), axis=-1))
    nearest = np.argsort(distance, kind="stable")[: max(20, len(distance) // 4)]
    first, second, step = first[nearest], second[nearest], step[nearest]
    energy, forces = dataset.values["energy"], dataset.values["forces"]
    change = energy[second] - energy[first]
    mean_force = 0.5 * (forces[first] + forces[second])
    work = -np.einsum("nia,nia->n", mean_force, step)
    # half the difference of the two one-sided estimates: how far from linear the step is
    bend = 0.5 * np.einsum("nia,nia->n", forces[second] - forces[first], step)
    return _judge(change, work, bend, float(np.median(distance[nearest])))


def implausible_lengths(dataset: Dataset, *, max_frames: int = 20) -> str:
    """A sentence if nearest atoms are far from bonded: the unit of length may be wrong; or ``""``.

    Compares the distance to the nearest neighbour with the sum of covalent radii; noble gases,
    which form no bonds, are left out.
    """
    bonded = ~np.isin(dataset.numbers, _NOBLE)
    if bonded.sum() < 2:
        return ""
    radii = covalent_radii(dataset.numbers[bonded])
    every = max(1, len(dataset) // max_frames)
    cells = None if dataset.cell is None else _full_cell(dataset)[::every]
    step = dataset.positions[::every][:, bonded]
    step = step[:, :, None] - step[:, None]
    if cells is not None:
        inverse = np.linalg.inv(cells)
        shifts = np.round(np.einsum("nijk,nkl->nijl", step, inverse))
        step = step - np.einsum("nijk,nkl->nijl", shifts, cells)
    ratio = np.linalg.norm(step, axis=-1) / (radii[:, None] + radii)
    ratio[:, np.eye(len(radii), dtype=bool)] = np.inf
    typical = float(np.median(ratio.min(axis=-1)))
    if _BONDED[0] < typical < _BONDED[1]:
        return ""
    return (
        f"nearest atoms are {typical:.2f} times a bond apart: is the unit of length, "
        f"{dataset.length_unit}, that of the positions?"
    )


def _nearest(
    dataset: Dataset, max_frames: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of nearest frames and the displacement between them, without exact repeats."""
    count = len(dataset)
    flat = _features(dataset)
    norms = np.einsum("ni,ni->n", flat, flat)
    rng = np.random.default_rng(seed)
    query = np.sort(rng.choice(count, min(count, max_frames), replace=False))
    pairs = set()
    for tile in np.array_split(query, max(1, len(query) * count // 2_000_000)):
        squared = norms[tile, None] + norms[None, :] - 2 * flat[tile] @ flat.T
        squared[squared < 1e-10 * (1 + norms[tile, None])] = np.inf  # itself and its repeats
        if dataset.cell is not None:  # energies across different cells contain work on the cell
            same = (dataset.cell[tile, None] == dataset.cell[None]).all(axis=(-2, -1))
            squared[~same] = np.inf
        other = squared.argmin(axis=1)
        found = np.isfinite(squared[np.arange(len(tile)), other])
        pairs.update((min(p), max(p)) for p in zip(tile[found], other[found], strict=True))
    index = np.array(sorted(pairs), int).reshape(-1, 2)
    step = dataset.positions[index[:, 1]] - dataset.positions[index[:, 0]]
    if dataset.cell is not None:
        cell = _full_cell(dataset)[index[:, 0]]
        step = step - np.round(step @ np.linalg.inv(cell)) @ cell
    return index[:, 0], index[:, 1], step


def _features(dataset: Dataset) -> np.ndarray:
    """Vectors whose distance is that of near frames, whichever image of an atom they hold."""
    positions = dataset.positions
    if dataset.cell is None:
        return (positions - positions.mean(axis=1, keepdims=True)).reshape(len(dataset), -1)
    angle = 2 * np.pi * positions @ np.linalg.inv(_full_cell(dataset))
    radius = np.linalg.norm(_full_cell(dataset), axis=-1)[:, None] / (2 * np.pi)
    circle = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return circle.reshape(len(dataset), -1)


def _full_cell(dataset: Dataset) -> np.ndarray:
    """Cells with three independent vectors, those of open directions long enough to do nothing."""
    cell = np.array(dataset.cell)
    if dataset.pbc is None or dataset.pbc.all():
        return cell
    _, _, normals = np.linalg.svd(cell[:, dataset.pbc])
    cell[:, ~dataset.pbc] = 1e4 * normals[:, int(dataset.pbc.sum()) :]
    return cell


def _judge(change: np.ndarray, work: np.ndarray, bend: np.ndarray, distance: float) -> Consistency:
    if not np.any(work) or not np.any(change):
        what = "forces are zero" if not np.any(work) else "energies are constant"
        return Consistency(0.0, 0.0, len(work), distance, "contradictory", f"all {what}")
    slope = float(work @ change / (work @ work))
    r2 = float((work @ change) ** 2 / ((work @ work) * (change @ change)))
    # a wrong unit or sign shifts every pair alike; a few pairs with large energies do not
    ratio = float(np.median(change[work != 0] / work[work != 0]))
    uniform = r2 > 0.7 and 0.75 < ratio / slope < 1.33
    error = float(np.median(np.abs(change - work)) / max(np.median(np.abs(bend)), 1e-30))
    verdict, message = "undecided", "near frames are too far apart to compare energies and forces"
    if uniform and slope < 0:
        verdict = "sign"
        message = (
            f"energy changes by {slope:.3g} times the work of the forces: the forces have the "
            f"wrong sign (gradients?){_guess(-slope)}; negate them"
        )
    elif 1 / 1.4 < slope < 1.4 and (r2 > 0.7 or (r2 > 0.4 and error < _SMALL)):
        verdict, message = "consistent", "energies and forces agree"
    elif uniform:
        verdict = "units"
        message = (
            f"energy changes by {slope:.3g} times the work of the forces: energies and forces are "
            f"not in the same units{_guess(slope)}; check energy_unit, length_unit, forces_unit"
        )
    elif r2 < 0.4 and error > _LARGE and distance < _FAR:
        verdict = "contradictory"
        message = (
            f"energies do not follow the forces (r² = {r2:.2f} over {len(work)} pairs of frames "
            f"{distance:.3f} Å apart): the labels are shuffled, of different levels of theory or "
            "geometries, or depend on what is not in the data set (charge, spin)"
        )
    return Consistency(slope, r2, len(work), distance, verdict, message)


def _guess(slope: float) -> str:
    near = [
        name
        for name, ratio in _RATIOS.items()
        if min(abs(np.log(slope * ratio)), abs(np.log(slope / ratio))) < _TOLERANCE
    ]
    return f" ({' or '.join(near)}?)" if near else ""


def _undecided(pairs: int, message: str) -> Consistency:
    return Consistency(float("nan"), float("nan"), pairs, float("nan"), "undecided", message)

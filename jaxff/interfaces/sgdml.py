r"""Model files of the sGDML package (``type='m'``), read and written.

Models trained elsewhere predict here, and models fitted here predict there. The file stores
:math:`\alpha = -\beta/\mathrm{std}`, descriptors and contracted Jacobians, but no geometries: a
loaded model predicts, but cannot be refitted.

Reference:
    Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.data.archive import members, read_archive, write_atomic
from jaxff.data.sgdml_format import check_type, resolve_unit, text
from jaxff.descriptors.inverse_distances import inverse_distances
from jaxff.gdml.expansion import assemble
from jaxff.gdml.potential import KernelPotential, potential
from jaxff.kernels import groups
from jaxff.kernels.base import matern52
from jaxff.kernels.kernel import Kernel
from jaxff.numerics import require_float64
from jaxff.types import Params

__all__ = ["Model", "Provenance", "load", "read", "save"]

_SOLVER = {"solver_iters": "iterations", "solver_resid": "residual", "solver_tol": "tolerance"}
"""Entries that an iterative solver leaves."""

_REQUIRED = ("z", "R_desc", "R_d_desc_alpha", "sig", "c", "perms")


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: everything of a model file that prediction does not need.

    Attributes:
        dataset_name: Name of the training data set.
        dataset_theory: Level of theory.
        train_indices: Frames of the data set that were fitted.
        train_fingerprint: md5 of that data set (sGDML's rule).
        valid_indices: Frames used for model selection.
        valid_fingerprint: md5 of the data set they come from.
        energy_unit: Unit of energy in the file.
        length_unit: Unit of length in the file.
        regularization: λ of the fit.
        scale: Standard deviation of the labels, eV/Å.
        solver: Name of the solver, ``"analytic"`` or ``"cg"``.
        iterations: Iterations of an iterative solver.
        residual: Relative residual that it left.
        tolerance: That at which it was to stop.
        has_energies: Whether energies fixed the constant.
        force_error: ``{"mae": ..., "rmse": ...}`` of validation forces in eV/Å.
        energy_error: The same of energies in eV.
        code_version: Version of the program that wrote the file.
    """

    dataset_name: str = "unnamed"
    dataset_theory: str = "unknown"
    train_indices: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    train_fingerprint: str = ""
    valid_indices: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    valid_fingerprint: str = ""
    energy_unit: str = "kcal/mol"
    length_unit: str = "Ang"
    regularization: float = 1e-10
    scale: float = 1.0
    solver: str = "analytic"
    iterations: int | None = None
    residual: float | None = None
    tolerance: float | None = None
    has_energies: bool = True
    force_error: Mapping[str, float] = field(default_factory=dict)
    energy_error: Mapping[str, float] = field(default_factory=dict)
    code_version: str = ""


@dataclass(frozen=True)
class Model:
    """A model file: the potential, its parameters and their provenance."""

    potential: KernelPotential
    params: Params
    provenance: Provenance


def load(
    path: str | os.PathLike, *, energy_unit: str | None = None, length_unit: str | None = None
) -> tuple[KernelPotential, Params]:
    """Potential and parameters of an sGDML model file; energies in eV, lengths in Å.

    See :func:`read` for arguments and errors.
    """
    model = read(path, energy_unit=energy_unit, length_unit=length_unit)
    return model.potential, model.params


def read(
    path: str | os.PathLike, *, energy_unit: str | None = None, length_unit: str | None = None
) -> Model:
    """Read an sGDML model file.

    Args:
        path: The ``.npz`` file.
        energy_unit: Unit of energy, where the file has no ``e_unit``.
        length_unit: Unit of length, where the file has no ``r_unit``.

    Raises:
        ValueError: If the file is damaged, no model, incomplete, of inconsistent shapes, or its
            units are unknown.
        FileNotFoundError: If there is no such file.
        RuntimeError: If 64-bit floats are not enabled.
    """
    require_float64("an sGDML model")
    where = f"{path}: "
    present = members(path)
    raw = read_archive(path, only=[n for n in present if n != "interact_cut_off"])
    check_type(raw, "m", path)
    missing = [key for key in _REQUIRED if key not in raw]
    if missing:
        raise ValueError(f"{where}not a complete sGDML model: {', '.join(missing)} missing")
    energy_unit = resolve_unit(raw, "e_unit", energy_unit, units.to_ev, where)
    length_unit = resolve_unit(raw, "r_unit", length_unit, units.to_angstrom, where)
    ev, angstrom = units.to_ev(energy_unit), units.to_angstrom(length_unit)
    _check_shapes(raw, where)
    perms, numbers = raw["perms"].astype(int), raw["z"].astype(int)
    try:
        groups.verify(perms, numbers)
        kernel = Kernel(inverse_distances, matern52, perms)
    except ValueError as error:
        raise ValueError(f"{where}perms: {error}") from error
    _check_permutations(raw, where)
    scale = float(raw.get("std", 1.0)) * ev
    # Descriptors are inverse lengths, α is a length squared, and so J α has no unit: next to the
    # label scale in energy per length they make coefficients and weights of the file's units.
    features = jnp.asarray(raw["R_desc"].T / angstrom)
    weights = jnp.asarray(raw["R_d_desc_alpha"] * (-scale / angstrom))
    energy_weights = jnp.asarray(raw["alphas_E"] * scale) if "alphas_E" in raw else None
    params = {
        "hyper": {"lengthscale": jnp.asarray(float(raw["sig"]) / angstrom)},
        "numbers": jnp.asarray(numbers),
        "expansion": assemble(features, weights, energy_weights),
        "constant": jnp.asarray(float(raw["c"]) * ev),
    }
    coefficients = {}
    if "alphas_F" in raw:
        coefficients["forces"] = jnp.asarray(
            raw["alphas_F"].reshape(len(features), -1, 3) * (-scale * angstrom)
        )
    if energy_weights is not None:
        coefficients["energy"] = energy_weights
    params["coefficients"] = coefficients
    if "lattice" in raw:
        params["cell"] = jnp.asarray(raw["lattice"].T * angstrom)
        params["one_cell"] = ()
    _check_finite(params, where)
    return Model(potential(kernel), params, _provenance(raw, energy_unit, length_unit, where))


def _check_shapes(raw: Mapping[str, np.ndarray], where: str) -> None:
    atoms = raw["z"].size
    pairs = atoms * (atoms - 1) // 2
    count = raw["R_desc"].shape[-1] if raw["R_desc"].ndim == 2 else 0
    expected = {
        "z": (atoms,),
        "R_desc": (pairs, count),
        "R_d_desc_alpha": (count, pairs),
        "perms": (len(raw["perms"]), atoms) if raw["perms"].ndim else (0, atoms),
        "alphas_F": (count * atoms * 3,),
        "alphas_E": (count,),
        "lattice": (3, 3),
        **dict.fromkeys(("sig", "c", "std", "lam", *_SOLVER), ()),
    }
    for key, shape in expected.items():
        if key not in raw:
            continue
        kind = "iu" if key in ("z", "perms") else "iuf"
        if raw[key].shape != shape or raw[key].dtype.kind not in kind:
            raise ValueError(
                f"{where}{key} must hold numbers of shape {shape} for {atoms} atoms and {count} "
                f"references, got {raw[key].dtype} of shape {raw[key].shape}"
            )


def _check_permutations(raw: Mapping[str, np.ndarray], where: str) -> None:
    """The two forms of the group in a file must agree: sGDML predicts with the second."""
    linear = raw.get("tril_perms_lin")
    if linear is not None and not np.array_equal(linear, _linear_permutations(raw["perms"])):
        raise ValueError(
            f"{where}perms and tril_perms_lin contradict each other: one of them was changed or "
            "damaged; take both from the original model"
        )


def _check_finite(params: Params, where: str) -> None:
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"{where}the model holds numbers that are not finite")
    if not params["hyper"]["lengthscale"] > 0:
        raise ValueError(f"{where}sig must be positive, got {params['hyper']['lengthscale']}")


def _provenance(
    raw: Mapping[str, np.ndarray], energy_unit: str, length_unit: str, where: str
) -> Provenance:
    ev, angstrom = units.to_ev(energy_unit), units.to_angstrom(length_unit)

    def word(key: str, default: str = "") -> str:
        value = text(raw[key]) if key in raw else default
        return default if value == "None" else value

    def indices(*keys: str) -> np.ndarray:
        for key in keys:
            if key in raw:
                found = raw[key]
                if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
                    raise ValueError(
                        f"{where}{key} must be a list of frame numbers, got {found.dtype} of shape "
                        f"{found.shape}"
                    )
                return found.astype(int)
        return np.zeros(0, int)

    def errors(key: str, factor: float) -> dict[str, float]:
        value = raw[key].item() if key in raw and raw[key].dtype.hasobject else None
        if not isinstance(value, Mapping):
            return {}
        return {str(k): float(v) * factor for k, v in value.items()}

    return Provenance(
        dataset_name=word("dataset_name", "unnamed"),
        dataset_theory=word("dataset_theory", "unknown"),
        train_indices=indices("idxs_train", "train_idxs"),
        train_fingerprint=word("md5_train") or word("train_md5"),
        valid_indices=indices("idxs_valid", "valid_idxs"),
        valid_fingerprint=word("md5_valid") or word("valid_md5"),
        energy_unit=energy_unit,
        length_unit=length_unit,
        regularization=float(raw["lam"]) if "lam" in raw else float("nan"),
        scale=float(raw.get("std", 1.0)) * ev / angstrom,
        solver=word("solver_name", "analytic"),
        **{name: raw[key].item() for key, name in _SOLVER.items() if key in raw},
        has_energies=bool(np.all(raw.get("use_E", True))),
        force_error=errors("f_err", ev / angstrom),
        energy_error=errors("e_err", ev),
        code_version=word("code_version"),
    )


def save(
    path: str | os.PathLike,
    potential: KernelPotential,
    params: Params,
    provenance: Provenance | None = None,
) -> None:
    """Write an sGDML model file, atomically.

    Args:
        path: Where to write.
        potential: A kernel potential of inverse distances and Matérn 5/2, as the format knows no
            other.
        params: Its fitted parameters.
        provenance: What to record; its units are those of the file.

    Raises:
        ValueError: If the format cannot hold the model.
    """
    kernel = getattr(potential, "kernel", None)
    if (
        not isinstance(kernel, Kernel)
        or "features" not in params["expansion"]
        or "axes" in params["expansion"]
        or kernel.descriptor != inverse_distances
        or kernel.base != matern52
    ):
        raise ValueError(
            "the sGDML format holds kernels of inverse distances and matern52 only, fitted to "
            "labels without second derivatives; use jaxff.io.save for this potential"
        )
    _check_lattice(params)
    arrays = _arrays(kernel, params, provenance or Provenance())
    write_atomic(path, lambda stream: np.savez_compressed(stream, **arrays))


def _check_lattice(params: Params) -> None:
    references = params.get("references")
    if references is None or references.cell is None:
        return
    if not bool(jnp.all(references.pbc)) or bool(jnp.any(references.cell != references.cell[0])):
        raise ValueError(
            "the sGDML format holds one lattice, periodic in three directions, but the references "
            "have several cells or a direction that is not periodic; use jaxff.io.save"
        )


def _arrays(kernel: Kernel, params: Params, about: Provenance) -> dict[str, Any]:
    ev, angstrom = units.to_ev(about.energy_unit), units.to_angstrom(about.length_unit)
    expansion = params["expansion"]
    scale = about.scale * angstrom / ev  # of the labels, in units of the file
    features = np.asarray(expansion["features"] + expansion["center"]) * angstrom
    atoms = len(params["numbers"])
    perms = np.arange(atoms)[None] if kernel.permutations is None else kernel.permutations
    sigma = float(params["hyper"]["lengthscale"]) * angstrom

    def errors(values: Mapping[str, float], factor: float) -> np.ndarray:
        found = {k: float(values.get(k, np.nan)) / factor for k in ("mae", "rmse")}
        return np.array(found, dtype=object)

    arrays: dict[str, Any] = {
        "type": "m",
        "code_version": about.code_version or _version(),
        "dataset_name": about.dataset_name,
        "dataset_theory": about.dataset_theory,
        "solver_name": about.solver,
        "z": np.asarray(params["numbers"], np.int64),
        "idxs_train": np.asarray(about.train_indices, np.int64),
        "md5_train": about.train_fingerprint.encode(),
        "idxs_valid": np.asarray(about.valid_indices, np.int64),
        "md5_valid": about.valid_fingerprint.encode(),
        "n_test": 0,
        "md5_test": np.array(None, dtype=object),
        "f_err": errors(about.force_error, ev / angstrom),
        "e_err": errors(about.energy_error, ev),
        "R_desc": np.ascontiguousarray(features.T),
        "R_d_desc_alpha": np.asarray(expansion["weights"]) / -about.scale,
        "c": float(params["constant"]) / ev,
        "std": scale,
        "sig": int(sigma) if sigma == int(sigma) else sigma,
        "lam": about.regularization,
        "perms": perms.astype(np.int64),
        "tril_perms_lin": _linear_permutations(perms),
        "use_E": about.has_energies,
        "r_unit": about.length_unit,
        "e_unit": about.energy_unit,
    }
    coefficients = params.get("coefficients", {})
    if "forces" in coefficients:
        arrays["alphas_F"] = np.ravel(coefficients["forces"]) / (-about.scale * angstrom**2)
    if "energy_weights" in expansion:
        arrays["alphas_E"] = np.asarray(expansion["energy_weights"]) / (scale * ev)
    found = {key: getattr(about, name) for key, name in _SOLVER.items()}
    arrays |= {key: value for key, value in found.items() if value is not None}
    cell = params.get("cell")
    if cell is not None:
        arrays["lattice"] = np.asarray(cell).T / angstrom
    return arrays


def _linear_permutations(perms: np.ndarray) -> np.ndarray:
    """Index into tiled descriptors as sGDML stores it: entry ``d·P + p`` is ``π_p(d) + p·D``."""
    features = inverse_distances.permute(perms)
    return (features + np.arange(len(perms))[:, None] * features.shape[1]).T.ravel()


def _version() -> str:
    from importlib.metadata import version

    return f"jaxff {version('jaxff')}"

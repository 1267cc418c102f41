"""Facts of the sGDML file formats that data sets and models share.

Reference:
    Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

OWN_KEYS = frozenset(
    [
        *("type", "code_version", "name", "theory", "z", "R", "E", "F", "r_unit", "e_unit"),
        *("lattice", "cell", "pbc", "perms", "charge", "spin", "md5"),
        *(f"{key}_{what}" for key in "EF" for what in ("min", "max", "mean", "var")),
    ]
)
"""Keys of a data set that have a place in :class:`jaxff.data.Dataset`."""

_KINDS = {"d": "a data set", "m": "a trained model", "t": "a training task"}


def fingerprint(z: Any, R: Any, E: Any = None, F: Any = None) -> str:
    """Fingerprint that sGDML gives to a data set, 32 hexadecimal digits.

    The md5 of the md5 digests of the raw bytes of z, R, E and F, in row order; it depends on units
    and on number types. Absent labels (``None``) are left out.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for array in (z, R, E, F):
        if array is not None:
            part = np.ascontiguousarray(np.asarray(array).ravel())
            digest.update(hashlib.md5(part.tobytes(), usedforsecurity=False).digest())
    return digest.hexdigest()


def check_type(
    arrays: Mapping[str, np.ndarray], expected: str, path: Any, names: Collection[str] = ()
) -> None:
    """Refuse a file whose ``type`` says that it is something else.

    Args:
        arrays: Arrays of the file.
        expected: ``"d"`` (data set, which may lack its type), ``"m"`` (model) or ``"t"`` (task).
        path: For the message.
        names: Names of all arrays of the file, if ``arrays`` are only some.

    Raises:
        ValueError: Naming what the file is and how to read it.
    """
    found = text(arrays["type"]) if "type" in arrays else None
    if found is None and "R_desc" in (*arrays, *names):
        found = "m"
    if found == expected or (found is None and expected == "d"):
        return
    hint = {
        "d": "read data sets with jaxff.data.npz.read",
        "m": "load models with jaxff.interfaces.sgdml.load",
    }.get(str(found), "jaxff does not read this kind")
    kind = _KINDS.get(str(found), f"of unknown type {found!r}")
    raise ValueError(f"{path}: expected {_KINDS[expected]}, but the file is {kind}: {hint}")


def text(value: Any) -> str:
    """Text of a 0-d array of text or bytes, as files of both kinds exist."""
    value = np.asarray(value).reshape(-1)
    item = value[0] if value.size == 1 else str(value)
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def resolve_unit(
    arrays: Mapping[str, np.ndarray],
    key: str,
    given: str | None,
    factor: Callable[[str], float],
    where: str,
) -> str:
    """The unit that file and caller agree on.

    Args:
        arrays: Arrays of the file.
        key: ``"e_unit"`` or ``"r_unit"``.
        given: The caller's word, or ``None``.
        factor: Gives the size of a unit, :func:`jaxff.units.to_ev` or ``to_angstrom``.
        where: Start of a message.

    Raises:
        ValueError: If nobody says the unit, it is unknown, or the two disagree.
    """
    name = {"e_unit": "energy_unit", "r_unit": "length_unit"}[key]
    stored = text(arrays[key]).strip() if key in arrays else ""
    if stored.lower() in ("", "unknown", "none", "n/a"):
        stored = ""
    if not stored and given is None:
        raise ValueError(
            f"{where}the file does not say its unit ({key}); pass {name}=..., for instance "
            f"{'kcal/mol or eV' if key == 'e_unit' else 'Ang or bohr'}"
        )
    try:
        sizes = [factor(unit) for unit in (stored, given) if unit]
    except ValueError as error:
        raise ValueError(f"{where}{key}: {error}") from error
    if len(sizes) == 2 and not np.isclose(sizes[0], sizes[1], rtol=1e-5, atol=0):
        raise ValueError(
            f"{where}{name}={given!r} contradicts the file, which says {key}={stored!r}; "
            f"leave {name} out, or correct the file"
        )
    return stored or str(given)


def numeric(array: np.ndarray, name: str) -> np.ndarray:
    """The array in float64 and row order; text, objects and complex numbers are refused."""
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    return array.astype(np.float64, order="C")


def one_row(z: np.ndarray, where: str) -> np.ndarray:
    """Atomic numbers, the same for all frames; some files repeat them per frame."""
    if z.ndim == 2 and len(z):
        other = np.flatnonzero((z != z[0]).any(axis=1))
        if other.size:
            raise ValueError(
                f"{where}frame {other[0]} has other elements or another order than frame 0; "
                "kernels need one order: sort the atoms or split the file"
            )
        return z[0]
    return z


def lattice_rows(
    raw: Mapping[str, np.ndarray], angstrom: float, count: int, where: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Rows of lattice vectors per frame in Å, and the periodic directions."""
    cell = None
    if "lattice" in raw:
        if raw["lattice"].shape != (3, 3):
            raise ValueError(f"{where}lattice must have shape (3, 3), got {raw['lattice'].shape}")
        cell = numeric(raw["lattice"], where + "lattice").T
    if "cell" in raw:
        rows = numeric(raw["cell"], where + "cell")
        if rows.shape not in ((3, 3), (count, 3, 3)):
            raise ValueError(f"{where}cell must have shape (3, 3) or per frame, got {rows.shape}")
        if cell is not None and not np.allclose(rows, cell):
            raise ValueError(
                f"{where}cell (rows) and lattice (columns) disagree: cell must be the transpose "
                "of lattice; remove the wrong one"
            )
        cell = rows
    pbc = raw.get("pbc") if cell is not None else None
    if cell is None or (pbc is not None and not np.any(pbc)):
        return None, None
    return np.broadcast_to(cell * angstrom, (count, 3, 3)), pbc

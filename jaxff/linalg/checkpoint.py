"""The state of an iterative solve on disk, so that a killed run loses little."""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import least
from jaxff.types import Float

__all__ = ["State", "check_same", "read", "remove", "write"]


class State(NamedTuple):
    """What a solve continues from.

    Attributes:
        value: Solution so far, ``(n, m)``.
        growth: Factor by which the rank of the preconditioner has been raised.
        history: Relative residuals.
    """

    value: Float[np.ndarray, "n m"]
    growth: float
    history: Float[np.ndarray, " iterations"]


def fingerprint(rhs: np.ndarray, diagonal: np.ndarray) -> str:
    """Digest of what the matrix is solved with: two systems must not be mixed up."""
    digest = hashlib.sha256()
    for array in (rhs, diagonal):
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()


def _probe(operator: KernelOperator) -> np.ndarray:
    """Diagonal and middle column: diagonals alone are the same for every length scale of some."""
    column = operator.columns(np.array([operator.size // 2]))[:, 0]
    return np.concatenate([np.asarray(operator.diagonal()), column])


def _is_same(known: np.ndarray, operator: KernelOperator) -> bool:
    """Up to rounding, which depends on the number of threads."""
    probe = _probe(operator)
    return known.shape == probe.shape and bool(
        np.abs(known - probe).max() <= _ROUNDING * np.abs(probe).max()
    )


_ROUNDING = 1e-10


def write(
    path: Path, operator: KernelOperator, rhs: np.ndarray, diagonal: np.ndarray, state: State
) -> None:
    """Replace the checkpoint at once: a reader sees the old one or the new one."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(
            file, value=state.value, growth=state.growth, history=state.history,
            system=fingerprint(rhs, diagonal), probe=_probe(operator),
        )  # fmt: skip
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read(
    path: Path | None, operator: KernelOperator, rhs: np.ndarray, diagonal: np.ndarray
) -> State | None:
    """The state of an earlier solve of the same system, if there is one.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the file belongs to another system, or is no checkpoint.
    """
    if path is None:
        return None
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: create it first")
    if not path.exists():
        return None
    with _opened(path) as file:
        same = str(file["system"]) == fingerprint(rhs, diagonal)
        if not (same and _is_same(file["probe"], operator)):
            raise ValueError(
                f"{path}: this checkpoint belongs to another system of equations (other "
                "geometries, labels, hyperparameters or regularization): remove it, or name "
                "another file"
            )
        return State(file["value"], float(file["growth"]), file["history"])


def _opened(path: Path) -> Any:
    try:
        file = np.load(path, allow_pickle=False)
        missing = {*State._fields, "system", "probe"} - set(getattr(file, "files", ()))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a checkpoint of a solve: {error}") from error
    if missing:
        raise ValueError(
            f"{path} is not a checkpoint of a solve (it lacks {', '.join(sorted(missing))}): name "
            "another file"
        )
    return file


def check_same(path: Path | None, state: State | None, mesh: Mesh | None) -> None:
    """Refuse to go on from different states.

    Raises:
        ValueError: If the processes of the mesh see different files.
    """
    if path is None:
        return
    digest = hashlib.sha256(b"" if state is None else state.value.tobytes()).digest()[:6]
    own = float(int.from_bytes(digest, "big"))
    if least(mesh, own) != -least(mesh, -own):
        raise ValueError(
            f"{path}: the processes see different checkpoints: use a folder that all of them "
            "share, or remove the file everywhere"
        )


def remove(path: Path | None) -> None:
    """Drop the checkpoint of a solve that is done."""
    if path is not None:
        path.unlink(missing_ok=True)

"""The state of an iterative solve on disk, so that a killed run loses little."""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import is_first, least, mesh_of
from jaxff.types import Float

__all__ = ["Identity", "Saving", "State", "identify", "read", "write"]


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


class Identity(NamedTuple):
    """What tells systems of equations apart: two of them must not be mixed up.

    Attributes:
        system: Digest of the right-hand side and of the diagonal that is added.
        probe: Middle column of the matrix. All geometries and the length scale are in it; the
            diagonal takes longer, and is the same for every length scale of some descriptors.
    """

    system: str
    probe: Float[np.ndarray, " n"]


def identify(operator: KernelOperator, rhs: np.ndarray, diagonal: np.ndarray) -> Identity:
    """Make it once per solve: a column can cost as much as many iterations."""
    digest = hashlib.sha256()
    for array in (rhs, diagonal):
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return Identity(digest.hexdigest(), operator.columns(np.array([operator.size // 2]))[:, 0])


class Saving:
    """Where the state of one solve goes, and how often.

    Args:
        path: The file.
        seconds: Time between two writes.
        operator: The matrix.
        rhs: The right-hand side.
        diagonal: What is added to the diagonal.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(
        self, path: Path, seconds: float, operator: KernelOperator, rhs: np.ndarray,
        diagonal: np.ndarray,
    ):  # fmt: skip
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {path.parent}: create it first")
        self.path, self.seconds, self.mesh = path, seconds, mesh_of(operator)
        self.identity = identify(operator, rhs, diagonal)

    def read(self) -> State | None:
        """The state of an earlier solve of the same system, if there is one."""
        state = read(self.path, self.identity)
        _check_same(self.path, state, self.mesh)
        return state

    def write(self, value: np.ndarray, growth: float, history: list[float]) -> None:
        """Replace the checkpoint, in the first process."""
        if is_first(self.mesh):
            write(self.path, self.identity, State(value, growth, np.array(history)))

    def remove(self) -> None:
        """Drop the checkpoint, in the first process."""
        if is_first(self.mesh):
            self.path.unlink(missing_ok=True)


def _is_same(known: np.ndarray, probe: np.ndarray) -> bool:
    """Up to rounding, which depends on the number of threads."""
    return known.shape == probe.shape and bool(
        np.abs(known - probe).max() <= _ROUNDING * np.abs(probe).max()
    )


_ROUNDING = 1e-10


def write(path: Path, identity: Identity, state: State) -> None:
    """Replace the checkpoint at once: a reader sees the old one or the new one."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(file, **state._asdict(), **identity._asdict())
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read(path: Path, identity: Identity) -> State | None:
    """The state of an earlier solve of the same system, if there is one.

    Raises:
        ValueError: If the file belongs to another system, or is no checkpoint.
    """
    if not path.exists():
        return None
    with _opened(path) as file:
        if not (str(file["system"]) == identity.system and _is_same(file["probe"], identity.probe)):
            raise ValueError(
                f"{path}: this checkpoint belongs to another system of equations (other "
                "geometries, labels, hyperparameters or regularization): remove it, or name "
                "another file"
            )
        return State(file["value"], float(file["growth"]), file["history"])


def _opened(path: Path) -> Any:
    try:
        file = np.load(path, allow_pickle=False)
        missing = {*State._fields, *Identity._fields} - set(getattr(file, "files", ()))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a checkpoint of a solve: {error}") from error
    if missing:
        raise ValueError(
            f"{path} is not a checkpoint of a solve (it lacks {', '.join(sorted(missing))}): name "
            "another file"
        )
    return file


def _check_same(path: Path, state: State | None, mesh: Mesh | None) -> None:
    """Refuse to go on from different states.

    Raises:
        ValueError: If the processes of the mesh see different files.
    """
    digest = hashlib.sha256(b"" if state is None else state.value.tobytes()).digest()[:6]
    own = float(int.from_bytes(digest, "big"))
    if least(mesh, own) != -least(mesh, -own):
        raise ValueError(
            f"{path}: the processes see different checkpoints: use a folder that all of them "
            "share, or remove the file everywhere"
        )

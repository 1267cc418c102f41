"""Dense symmetric matrices in a basis in which they are banded.

Conjugate gradients do not depend on the basis. Here K = H Q B Qᵀ H, where the reflection H turns
the right-hand side into the first unit vector and Q, a product of blocks of reflectors that leave
that vector alone, makes a band of B. A product with B takes a hundredth of the time of one with the
dense K; Q is applied once, to the right-hand side and to the factor of a preconditioner. From the
band it is not far to tridiagonal form, and so to the eigenvalues and to the right-hand side in the
basis of the eigenvectors, without a vector being turned back.

Reference: Bischof, Lang & Sun, ACM Trans. Math. Softw. 26, 581 (2000), doi:10.1145/365723.365735.
"""

import ctypes
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.linalg import cython_lapack, eigh_tridiagonal, lapack

BAND = 48
_ROWS = 512  # worked on at once, which keeps them in the caches
_COLUMNS = 256


class Reduction(NamedTuple):
    """The banded form.

    Attributes:
        reflectors: Below the band, column by column of blocks, the vectors of Q, ``(n, n)``.
        shares: Triangles T of the blocks 1 - V T Vᵀ of Q, ``(blocks, BAND, BAND)``.
        normal: Unit normal of the reflection H.
        band: Lower half of B by diagonals, ``(BAND + 1, n)``.
        values: Eigenvalues, descending.
        projected: The right-hand side in the basis of the eigenvectors.
        seconds: What the reduction took, and the eigenvalues.
    """

    reflectors: np.ndarray
    shares: np.ndarray
    normal: np.ndarray
    band: np.ndarray
    values: np.ndarray
    projected: np.ndarray
    seconds: np.ndarray

    def turn(self, columns):
        """The transpose of H Q times columns ``(n, k)``, which are overwritten."""
        for start in range(0, columns.shape[1], _COLUMNS):
            some = np.ascontiguousarray(columns[:, start : start + _COLUMNS])
            some -= np.outer(2.0 * self.normal, self.normal @ some)
            for first, share in enumerate(self.shares):
                vectors = _vectors(self.reflectors, first * BAND)
                below = some[first * BAND + BAND :]
                below -= vectors @ (share.T @ (vectors.T @ below))
            columns[:, start : start + _COLUMNS] = some
        return columns


def reduction(make, rhs, folder):
    """From the folder, or of the matrix that is made, which goes there."""
    folder = Path(folder)
    small = folder / "small.npz"
    if not small.exists():
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        matrix = make()
        normal, shares = _to_first(matrix, rhs), _to_band(matrix)
        middle = time.perf_counter()
        np.save(folder / "reflectors.npy", matrix)
        band = _band(matrix)
        del matrix
        values, vectors = eigh_tridiagonal(*_tridiagonal(band), lapack_driver="stemr")
        seconds = middle - start, time.perf_counter() - middle
        np.savez(
            small, shares=shares, normal=normal, band=band, values=values[::-1],
            projected=np.linalg.norm(rhs) * vectors[0, ::-1], seconds=seconds,
        )  # fmt: skip
    return Reduction(np.load(folder / "reflectors.npy", mmap_mode="r"), **np.load(small))


def _to_first(matrix, rhs):
    """Reflect the right-hand side to the first axis; the matrix is overwritten."""
    normal = rhs / np.linalg.norm(rhs)
    normal[0] += np.copysign(1.0, normal[0])
    normal /= np.linalg.norm(normal)
    image = matrix @ normal
    image = 2.0 * (image - (normal @ image) * normal)
    for rows in _panels(0, len(matrix)):
        matrix[rows] -= np.outer(normal[rows], image) + np.outer(image[rows], normal)
    return normal


def _to_band(matrix):
    """Eliminate below the band, with the rows in use of the lower triangle overwritten."""
    size, shares = len(matrix), []
    for start in range(BAND, size - 1, BAND):
        panel = matrix[start:, start - BAND : start]
        panel[:], tau, *_ = lapack.dgeqrf(panel)
        vectors = _vectors(matrix, start - BAND)
        shares.append(share := _share(vectors, tau))
        image = _product(matrix, start, vectors @ share)
        image -= 0.5 * vectors @ (share.T @ (vectors.T @ image))
        left, right = np.hstack([vectors, image]), np.hstack([image, vectors])
        for rows in _panels(start, size):
            inner = slice(rows.start - start, rows.stop - start)
            matrix[rows, start : rows.stop] -= left[inner] @ right[: inner.stop].T
    return np.array(shares)


def _panels(start, size):
    """Rows from a start, on a grid that does not depend on it."""
    edges = [start, *range(start - start % _ROWS + _ROWS, size, _ROWS), size]
    return map(slice, edges[:-1], edges[1:])


def _product(matrix, start, columns):
    """The trailing block, of which the lower half is there, times columns."""
    result = np.zeros_like(columns)
    for rows in _panels(start, len(matrix)):
        inner = slice(rows.start - start, rows.stop - start)
        result[inner] += matrix[rows, start : rows.stop] @ columns[: inner.stop]
        result[: inner.start] += matrix[rows, start : rows.start].T @ columns[inner]
    return result


def _vectors(reflectors, column):
    """Of one block: unit lower trapezoid, with BAND columns."""
    vectors = np.tril(reflectors[column + BAND :, column : column + BAND], -1)
    np.fill_diagonal(vectors, 1.0)
    return vectors


def _share(vectors, tau):
    """T with Π (1 - τ v vᵀ) = 1 - V T Vᵀ; at the end of the matrix there are fewer τ."""
    gram = vectors.T @ vectors
    share = np.zeros_like(gram)
    for i, factor in enumerate(tau):
        share[:i, i] = -factor * (share[:i, :i] @ gram[:i, i])
        share[i, i] = factor
    return share


def _band(matrix):
    size = len(matrix)
    band = np.zeros((BAND + 1, size), order="F")
    for i in range(BAND + 1):
        band[i, : size - i] = np.diagonal(matrix, -i)
    return band


def _tridiagonal(band):
    """Diagonal and what is beside it, by LAPACK's dsbtrd, which SciPy exports to Cython alone."""
    api, capsule = ctypes.pythonapi, cython_lapack.__pyx_capi__["dsbtrd"]
    name, pointer = api.PyCapsule_GetName, api.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = pointer(capsule, name(capsule))
    width, size = band.shape
    letters = np.frombuffer(b"NL", np.uint8)  # no vectors; the lower half
    sizes = np.array([size, width - 1, width, 1, 0], np.intc)
    copy, diagonal, beside = np.array(band, order="F"), np.zeros(size), np.zeros(size)
    none, work = np.zeros(1), np.zeros(size)
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 12)(address)(
        *(letters[i:].ctypes.data for i in (0, 1)), *(sizes[i:].ctypes.data for i in (0, 1)),
        copy.ctypes.data, sizes[2:].ctypes.data, diagonal.ctypes.data, beside.ctypes.data,
        none.ctypes.data, sizes[3:].ctypes.data, work.ctypes.data, sizes[4:].ctypes.data,
    )  # fmt: skip
    if sizes[4]:
        raise np.linalg.LinAlgError(f"the tridiagonal reduction failed: dsbtrd says {sizes[4]}")
    return diagonal, beside[:-1]

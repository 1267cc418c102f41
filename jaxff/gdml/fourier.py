r"""Sums over the translations of a crystal by a Fourier transform over their group.

The permutations of a crystal are products :math:`p = c\,\tau` of a few representatives c and many
translations τ, an abelian group T. Along the orbits o of T the features of a geometry are signals
on T, and inner products with all translated queries at once are a correlation,

.. math:: \langle x_j, y_\tau\rangle = \sum_{o\sigma} w_o\,x_{jo}(\sigma)\,y_o(\sigma + \tau),

which the transform turns into one small matrix product for each frequency. The work on a pair of
geometries and a representative falls from :math:`2\lvert T\rvert D` to :math:`4 D` operations, and
so does that of the gradient, the adjoint. Transforms are products with the table of real characters
(cosines and sines): for the at most some hundred translations of a supercell faster than a chain of
tiny fast Fourier transforms.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxff.kernels.abelian import cycle_length, elements, frequencies, orbits
from jaxff.kernels.kernel import Kernel
from jaxff.types import Array, Float

__all__ = ["block", "is_transformed", "transformed"]


class _Layout(NamedTuple):
    """Tables of a kernel: t are translations, o orbits of features, c representatives.

    Attributes:
        members: Feature ``(t, o)``.
        queries: The same for permuted queries, ``(t, o, c)``.
        back: Where the gradient by feature d under c is found among ``(t, o, c)``, ``(d, c)``.
        multiplicity: How often the orbit of a feature is passed through, ``(d,)``.
        characters: Real characters and pairs of cosines and minus sines, ``(frequency, t)``.
        real: How many of them are real.
        scale: Factors ``(frequency, o)`` that make the transpose the inverse, and weigh the orbits.
    """

    members: np.ndarray
    queries: np.ndarray
    back: np.ndarray
    multiplicity: np.ndarray
    characters: np.ndarray
    real: int
    scale: np.ndarray


@functools.lru_cache(maxsize=16)
def _layout(kernel: Kernel) -> _Layout:
    generators, permute = kernel.translations, getattr(kernel.descriptor, "permute", None)
    assert generators is not None
    assert permute is not None
    translations = elements(generators)
    found = orbits(permute(translations))
    order = len(translations)
    cosets = permute(kernel.cosets)  # (c, d)
    # x[coset][members]: the signals of a permuted query.
    queries = np.moveaxis(cosets[:, found.members.T], 0, -1)
    orbit, at = np.divmod(found.place, order)
    inverse = np.argsort(cosets, axis=1)
    back = (at * len(found.weights) + orbit)[inverse].T * len(cosets) + np.arange(len(cosets))
    real, half = frequencies(tuple(cycle_length(row) for row in generators))
    pairs = np.stack([np.cos(half), -np.sin(half)], axis=1).reshape(-1, order)
    characters = np.concatenate([np.cos(real), pairs])
    counted = np.where(np.arange(order) < len(real), 1.0, 2.0) / order
    return _Layout(
        found.members.T,
        queries,
        back,
        1.0 / found.weights[orbit],
        characters,
        len(real),
        counted[:, None] * found.weights,
    )


def is_transformed(expansion: dict[str, Any]) -> bool:
    """Whether an expansion holds its references as spectra."""
    return "spectra_pairs" in expansion


def transformed(
    kernel: Kernel, features: Float[Array, "N D"], weights: Float[Array, "N D"]
) -> dict[str, Array]:
    """Spectra of centred features and of weights, one below the other, as matrices.

    For a complex frequency a + ib of the references and c + id of a query, the matrix with the rows
    (a, b) and (-b, a) gives real and imaginary parts of the product with the conjugate.
    """
    layout = _layout(kernel)
    rows = jnp.concatenate([features, weights])
    count, (order, size) = len(rows), layout.members.shape
    signals = jnp.moveaxis(rows[:, layout.members], 1, 0).reshape(order, -1)
    spectra = (jnp.asarray(layout.characters) @ signals).reshape(order, count, size)
    spectra = spectra * layout.scale[:, None]
    real = spectra[: layout.real]
    a, b = jnp.moveaxis(spectra[layout.real :].reshape(-1, 2, count, size), 1, 0)
    pairs = jnp.block([[a, b], [-b, a]])
    return {
        "spectra_real": real,
        "spectra_pairs": pairs,
        "spectra_real_t": jnp.swapaxes(real, 1, 2),
        "spectra_pairs_t": jnp.swapaxes(pairs, 1, 2),
    }


def block(
    kernel: Kernel, lengthscale: Array, expansion: dict[str, Array], queries: Array
) -> tuple[Array, Array]:
    """Energies of a block of queries, and their gradients by the query features."""
    found = _terms(kernel, expansion, queries)
    scaled = found.squares / lengthscale**2
    factor = 2.0 / lengthscale**2
    slope = factor * kernel.base.derivative(1, scaled)
    radial = factor**2 * kernel.base.derivative(2, scaled) * found.projections
    each = slope * found.projections
    if "energy_weights" in expansion:
        weights = expansion["energy_weights"][:, None]
        radial += slope * weights
        each += kernel.base.derivative(0, scaled) * weights
    energy = jnp.sum(each.reshape(-1, len(queries)), axis=0)
    gradient = _pull_back(kernel, expansion, slope, radial, found.centred)
    return energy.astype(queries.dtype), gradient.astype(queries.dtype)


class _Terms(NamedTuple):
    """Of every pair of reference and permuted query; axes: translation, reference, c and query.

    Attributes:
        squares: Squared distances of the features.
        projections: Of their differences on the weights.
        centred: Centred features of the queries, ``(D, queries)``.
    """

    squares: Float[Array, "T N queries"]
    projections: Float[Array, "T N queries"]
    centred: Float[Array, "D Q"]


def _terms(kernel: Kernel, expansion: dict[str, Array], queries: Float[Array, "Q D"]) -> _Terms:
    """Squared distances and projections of all pairs."""
    layout = _layout(kernel)
    dtype = expansion["features"].dtype
    centred = (queries - expansion["center"]).T.astype(dtype)
    order, size, cosets = layout.queries.shape
    signals = centred[layout.queries].reshape(order, -1)
    columns = cosets * len(queries)
    characters = jnp.asarray(layout.characters, dtype)
    spectra = characters @ signals
    real = spectra[: layout.real].reshape(-1, size, columns)
    pairs = spectra[layout.real :].reshape(-1, 2 * size, columns)
    products = [
        (expansion[name] @ part).reshape(-1, 2 * len(expansion["features"]) * columns)
        for name, part in (("spectra_real", real), ("spectra_pairs", pairs))
    ]
    values = characters.T @ jnp.concatenate(products)
    inner, along = jnp.moveaxis(values.reshape(order, 2, -1, columns), 1, 0)
    own = jnp.tile(jnp.sum(centred**2, axis=0), cosets)
    squares = own + expansion["squares"][:, None] - 2.0 * inner
    return _Terms(squares, along - expansion["offsets"][:, None], centred)


def _pull_back(
    kernel: Kernel,
    expansion: dict[str, Array],
    slope: Float[Array, "T N queries"],
    radial: Float[Array, "T N queries"],
    centred: Float[Array, "D Q"],
) -> Float[Array, "Q D"]:
    r"""Gradient :math:`\sum_{jp}` ``slope`` :math:`w_j +` ``radial`` :math:`(y_p - x_j)`.

    It is taken back from the permuted queries to the order of the query itself, and summed.
    """
    layout = _layout(kernel)
    order, size, cosets = layout.queries.shape
    columns = slope.shape[-1]
    characters = jnp.asarray(layout.characters, slope.dtype)
    spectra = characters @ jnp.stack([-radial, slope], axis=1).reshape(order, -1)
    rows = 2 * slope.shape[1]
    real = spectra[: layout.real].reshape(-1, rows, columns)
    pairs = spectra[layout.real :].reshape(-1, 2 * rows, columns)
    products = [
        (expansion[name] @ part).reshape(-1, size * columns)
        for name, part in (("spectra_real_t", real), ("spectra_pairs_t", pairs))
    ]
    signals = characters.T @ jnp.concatenate(products)
    flat = signals.reshape(order * size * cosets, -1)
    gradient = jnp.sum(flat[layout.back], axis=1) * layout.multiplicity[:, None]
    total = jnp.sum(radial.reshape(-1, cosets, centred.shape[1]), axis=(0, 1))
    return (gradient + total * centred).T.astype(slope.dtype)

r"""How sure a kernel is: posterior variances of what it predicts, exact and bounded.

A kernel fit is the mean of a Gaussian process whose prior covariance is the kernel times an
amplitude. Given labels with covariance :math:`K + \Lambda`, an observation with prior variance
:math:`k_{**}` and covariances :math:`k_*` with the labels has the variance

.. math:: k_{**} - k_*^T (K + \Lambda)^{-1} k_* .

Reference: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 2.2.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.fit import FitInfo
from jaxff.gdml.generic import GenericOperator, tile, unit_jets
from jaxff.gdml.labels import ordered, packed_shapes, rigid_motions, unit
from jaxff.gdml.potential import KernelPotential, references_of, same_atoms
from jaxff.gdml.radial_operator import operator_of
from jaxff.kernels.listed import listed
from jaxff.system import System
from jaxff.types import Array, Float, Int, Params

__all__ = ["Posterior", "VarianceBound", "posterior"]

_OBSERVABLE = ("forces", "energy", "stress", "virial")


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class VarianceBound:
    r"""Upper bound of posterior variances, cheap and usable inside ``jit``.

    It is the exact posterior variance given *some* of the labels, with the same noise. Every
    further label can only lower the variance, so that for each component of each observable

        variance given all labels <= this bound <= prior variance.

    The cost is that of comparing the query with as many references as there are chosen labels.

    Attributes:
        kernel: The kernel, static.
        names: Observables, static.
        hyper: Hyperparameters.
        jets: Those of the chosen labels.
        factor: Cholesky factor of their covariance.
        level: Amplitude in squared units of the labels.
        numbers: Atoms of the references; others have variances NaN, and outside ``jit`` an error.
    """

    kernel: Any
    names: tuple[str, ...]
    hyper: dict[str, Array]
    jets: Any
    factor: Float[Array, "m m"]
    level: Array
    numbers: Int[Array, " atoms"]

    def __call__(self, system: System, neighbors: Any = None) -> dict[str, Array]:
        """Bounds by name for one system, in squared units, without the constant of the energy."""
        same = same_atoms(system.numbers, self.numbers)
        return jax.tree.map(lambda own: own * same, _variances(self, listed(system, neighbors)))

    def tree_flatten(self):
        """Arrays are the children."""
        children = (self.hyper, self.jets, self.factor, self.level, self.numbers)
        return children, (self.kernel, self.names)

    @classmethod
    def tree_unflatten(cls, static, children) -> "VarianceBound":
        """Rebuild around (possibly placeholder) arrays."""
        return cls(*static, *children)


def _variances(model: VarianceBound, system: System) -> dict[str, Array]:
    single = jax.tree.map(lambda leaf: leaf[None], system)
    shapes = packed_shapes(model.names, system.atom_count)
    cross = tile(model.kernel, model.names, model.hyper, single, None, model.jets)[0]
    explained = jax.scipy.linalg.solve_triangular(model.factor, cross, lower=True)
    # The prior variance: each observable's own model, observed by itself.
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * size), system)
    own = unit_jets(model.kernel, model.hyper, copies, unit(model.names, copies, np.arange(size)))
    prior = jnp.diagonal(tile(model.kernel, model.names, model.hyper, single, None, own)[0])
    # Rounding may leave a variance of zero slightly negative; it is returned as it comes.
    variance = model.level * (prior - jnp.sum(explained**2, axis=0))
    parts, start = {}, 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        parts[name] = variance[start:stop].reshape(shape)
        start = stop
    return parts


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of a fitted kernel.

    Attributes:
        operator: The matrix of the labels.
        diagonal: What was added to its diagonal, ``(n,)``.
        factor: Cholesky factor of the sum, ``(n, n)``.
        level: Amplitude of the prior in squared units of the labels.
    """

    operator: GenericOperator
    diagonal: Float[np.ndarray, " n"]
    factor: Float[np.ndarray, "n n"]
    level: float

    def variance(
        self,
        systems: System,
        names: tuple[str, ...] | str = ("energy", "forces"),
        neighbors: Any = None,
    ) -> dict[str, Array]:
        """Exact posterior variances at a stack of systems.

        Stress and virial are given as their six independent components.

        Args:
            systems: Stack of Q systems.
            names: Any of energy, forces, stress and virial, or one of them.
            neighbors: Lists of the stack, of periodic systems if the kernel declares cutoffs.

        Returns:
            Variances in squared units by name, leading axis: system. Where the data determine the
            answer they are zero up to rounding, of either sign.

        Raises:
            ValueError: For other names, other atoms than those of the references, and what is no
                stack.
        """
        if len(systems.batch_shape) != 1:
            raise ValueError(
                "variances are those of a stack of systems with one leading axis "
                f"(jaxff.system.stack), got positions of shape {systems.positions.shape}"
            )
        same_atoms(systems.numbers, self.operator.references.numbers[0])
        model = self._model(np.arange(self.operator.size), self.factor, names)
        systems = listed(systems, neighbors)
        found = [
            _jitted(model, jax.tree.map(lambda leaf, i=i: leaf[i], systems))
            for i in range(systems.positions.shape[0])
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    def bound(self, count: int, names: tuple[str, ...] | str = ("forces",)) -> VarianceBound:
        """An upper bound of the variances from a few of the labels, see :class:`VarianceBound`.

        Energies are only known up to a constant where no energies were fitted: their variance is
        then that of the constant.

        The labels are chosen by pivoted Cholesky decomposition: each is the one that those before
        it leave the least known.

        Args:
            count: Number of labels.
            names: Any of energy, forces, stress and virial.

        Raises:
            ValueError: For other names, or a count that is not between one and all labels.

        Reference:
            Harbrecht, Peters & Schneider, Appl. Numer. Math. 62, 428 (2012),
            doi:10.1016/j.apnum.2011.10.001.
        """
        from scipy.linalg import cholesky, get_lapack_funcs

        size = self.operator.size
        if not 1 <= count <= size:
            raise ValueError(f"count must be from 1 to the {size} labels, got {count}")
        matrix = self.factor @ self.factor.T
        (pstrf,) = get_lapack_funcs(("pstrf",), (matrix,))
        pivots = pstrf(matrix, lower=1)[1] - 1
        chosen = np.sort(pivots[:count])
        return self._model(chosen, cholesky(matrix[np.ix_(chosen, chosen)], lower=True), names)

    def _model(self, index: np.ndarray, factor: np.ndarray, names: Any) -> VarianceBound:
        names = (names,) if isinstance(names, str) else names
        unknown = set(names) - set(_OBSERVABLE)
        if unknown or not names:
            raise ValueError(f"variances are offered of {_OBSERVABLE}, got {sorted(names)}")
        operator = self.operator
        names = tuple(name for name in _OBSERVABLE if name in names)
        return VarianceBound(
            operator.kernel, names, operator.hyper, operator.jets(index),
            jnp.asarray(factor), jnp.asarray(self.level), operator.references.numbers[0],
        )  # fmt: skip


_jitted = jax.jit(_variances)


def posterior(
    potential: KernelPotential,
    params: Params,
    info: FitInfo,
    *,
    amplitude: float | None = None,
) -> Posterior:
    r"""The Gaussian process behind a fit, for variances; keeps a dense matrix, so for small sets.

    Args:
        potential: From :func:`jaxff.gdml.potential`.
        params: From :func:`jaxff.gdml.fit`.
        info: What that reported: scale, regularization and noise.
        amplitude: Factor of the kernel, of the regularization and of the squared noise, for labels
            divided by the scale. With ``None`` the most likely one,
            :math:`y^T (K + \Lambda)^{-1} y / n`: then the noise levels mean ratios to the kernel.
            Use 1 where they are meant as they stand.

    Raises:
        ValueError: If the amplitude is not positive, or the parameters are not those of that fit.
        numpy.linalg.LinAlgError: If the matrix is not positive definite.
    """
    references = references_of(params)
    names = (*ordered(params["coefficients"]), *info.observables)
    operator = operator_of(
        potential.kernel, params["hyper"], references, names, params.get("directions")
    )
    if operator.size != info.size:
        raise ValueError(
            f"the fit reported {info.size} labels, the parameters hold {operator.size}: give both "
            "from the same call of fit"
        )
    if amplitude is not None and not 0.0 < amplitude < np.inf:
        raise ValueError(f"the amplitude must be a positive number, got {amplitude}")
    levels = {name: (info.noise.get(name, 0.0) / info.scale) ** 2 for name in operator.shapes}
    count = operator.count
    diagonal = info.regularization + operator.ravel(
        {name: np.full((count, *shape), levels[name]) for name, shape in operator.shapes.items()}
    )
    matrix = operator.dense()
    matrix[np.diag_indices(operator.size)] += diagonal
    factor = np.linalg.cholesky(matrix)
    if amplitude is None:
        coefficients = operator.ravel(params["coefficients"]) / info.scale
        amplitude = _likely_amplitude(operator, diagonal, factor, coefficients)
    return Posterior(operator, diagonal, factor, amplitude * info.scale**2)


def _likely_amplitude(
    operator: GenericOperator, diagonal: np.ndarray, factor: np.ndarray, coefficients: np.ndarray
) -> float:
    """The most likely amplitude: the mean square of the whitened labels.

    Net forces and torques, that the kernel leaves at zero, tell nothing of it.
    """
    square, size = np.sum((factor.T @ coefficients) ** 2), operator.size
    if "forces" in operator.names:
        axes, rigid = rigid_motions(operator.references)
        own = np.zeros((operator.size, operator.count, rigid))
        for reference, places in enumerate(operator.places):
            own[places[: len(axes[0])], reference] = axes[reference, :, :rigid]
        own = own.reshape(operator.size, -1)
        # The matrix of the labels, of which the kernel's own part must vanish.
        image = factor @ (factor.T @ own) - diagonal[:, None] * own
        if np.abs(image).max() <= 1e-8 * np.max(np.sum(factor**2, axis=1)):
            square -= np.sum((own.T @ coefficients) ** 2 * (diagonal @ own**2))
            size -= own.shape[1]
    return float(square / size)

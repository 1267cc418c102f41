"""The kernel matrix of a radial kernel for any labels, by matrix products."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxff.gdml.expansion import expand_compiled, supports
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.label_blocks import (
    label_blocks,
    order_of_rows,
    pairs_of,
    permutation_parts,
    prepare,
    prepare_query,
)
from jaxff.gdml.labels import Label
from jaxff.gdml.prediction import Predicted
from jaxff.kernels.kernel import Kernel
from jaxff.linalg.memory import lower_square
from jaxff.numerics import select
from jaxff.system import System
from jaxff.types import Array

__all__ = ["RadialOperator", "operator_of"]

_ELEMENTS = 1_000_000
"""Entries of the blocks that are computed at once, roughly."""


@dataclass(frozen=True, eq=False)
class RadialOperator(GenericOperator):
    """The matrix of :class:`jaxff.gdml.generic.GenericOperator` by matrix products.

    Products with a vector and, but for sums over atoms, the dense matrix have closed forms. Single
    columns and the diagonal are computed as there.
    """

    def _model(self, coefficients: dict[str, Any]) -> Predicted:
        """The energy function with these coefficients."""
        expansion = expand_compiled(
            self.kernel, self.hyper, self.references, coefficients, self.directions
        )
        return Predicted(self.kernel, self.hyper, expansion)

    def dense(
        self, *, lower: bool = False, progress: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """The matrix in column order, in host memory, exactly symmetric.

        With ``lower`` its upper triangle is left untouched. Of two equal entries one is computed.
        """
        if not isinstance(self.kernel, Kernel):
            return super().dense(lower=lower, progress=progress)
        size = self.size
        result = lower_square(size) if lower else np.empty((size, size), order="F")
        for row, column, block in self._blocks():
            for rows, columns, values in self._parts(row, column, block):
                result[rows, columns] = values
                if not lower:
                    result[columns, rows] = values.T
            if progress is not None and row == column:
                progress(((row + 1) / self.count) ** 2)
        return result

    def _blocks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Blocks of each reference with itself and those before it."""
        static = (self.kernel, tuple(self.shapes))
        references = prepare(*static, self.hyper, self.references, self.directions)
        rows = references.slopes.shape[1] + references.axes.shape[1]
        parts = permutation_parts(self.kernel, rows * references.points.shape[-1])
        height = min(self.count, max(1, _ELEMENTS // self.block**2))
        pending: list[tuple[int, range, Array]] = []
        for row in range(self.count):
            system, directions = self._at(row)
            plain = select(references, row)
            done = pending  # is written while the next blocks are computed
            pending = []
            for part in parts:
                query = prepare_query(*static, self.hyper, system, directions, plain, part)
                for place, start in enumerate(range(0, row + 1, height)):
                    chosen = select(references, np.minimum(start + np.arange(height), row))
                    found = label_blocks(
                        self.kernel, self._pairs, self.hyper["lengthscale"], query, chosen
                    )
                    if part is parts[0]:
                        pending.append((row, range(start, min(start + height, row + 1)), found))
                    else:
                        own, columns, total = pending[place]
                        pending[place] = own, columns, total + found
            for each in done:
                yield from _numbered(*each)
        for each in pending:
            yield from _numbered(*each)

    @cached_property
    def _pairs(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        directions = 0 if self.directions is None else self.directions.shape[1]
        first, second = pairs_of(tuple(self.shapes), self.references.atom_count, directions)
        return tuple(first.tolist()), tuple(second.tolist())

    def _parts(
        self, row: int, column: int, block: np.ndarray
    ) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Places in the lower triangle and values of the parts of a block."""
        for first, (own, start, size) in self._spans.items():
            rows = slice(start + row * size, start + (row + 1) * size)
            for second, (other, begin, width) in self._spans.items():
                columns = slice(begin + column * width, begin + (column + 1) * width)
                values = block[own, other]
                if row == column and first == second:
                    yield rows, columns, 0.5 * (values + values.T)
                elif start > begin or first == second:
                    yield rows, columns, values
                elif row > column:
                    yield columns, rows, values.T

    @cached_property
    def _spans(self) -> dict[str, tuple[slice, int, int]]:
        """Of each label: its part of a block, its first row, its components per reference."""
        sizes = {name: int(np.prod(shape)) for name, shape in self.shapes.items()}
        parts, start = {}, 0
        for name in order_of_rows(tuple(self.shapes)):
            parts[name] = slice(start, start + sizes[name])
            start += sizes[name]
        spans, start = {}, 0
        for name in sizes:
            spans[name] = parts[name], start, sizes[name]
            start += self.count * sizes[name]
        return spans


def operator_of(
    kernel: Any,
    hyper: dict[str, Array],
    references: System,
    names: tuple[Label, ...],
    directions: Any = None,
) -> GenericOperator:
    """The faster operator that holds for a kernel, with any labels."""
    closed = supports(kernel) and all(isinstance(label, str) for label in names)
    kind = RadialOperator if closed else GenericOperator
    return kind(kernel, hyper, references, names, directions)


def _numbered(row: int, columns: range, found: Array) -> Iterator[tuple[int, int, np.ndarray]]:
    for column, block in zip(columns, np.asarray(found), strict=False):
        yield row, column, block

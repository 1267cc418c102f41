"""Which parameters are trained: paths, patterns, and trees with the others cut out."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.types import Params

__all__ = ["combine", "parameter_paths", "partition", "trainable_mask"]


def parameter_paths(params: Params) -> list[str]:
    """Path of every leaf, such as ``"dense/kernel"``, in the order of ``jax.tree.leaves``."""
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]
    ]


def trainable_mask(params: Params, frozen: Sequence[str] = ()) -> Any:
    """True for every leaf that is trained: floating numbers that no pattern matches.

    Args:
        params: Parameters.
        frozen: Regular expressions, each for whole paths.

    Raises:
        ValueError: If a pattern is no regular expression or matches no path, or nothing is left.
    """
    paths = parameter_paths(params)
    kept = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in jax.tree.leaves(params)]
    for pattern in frozen:
        try:
            matches = [re.fullmatch(pattern, path) is not None for path in paths]
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        if not any(matches):
            raise ValueError(
                f"no parameter has a path that matches {pattern!r} as a whole; the paths are "
                f"{', '.join(paths)}"
            )
        kept = [keep and not match for keep, match in zip(kept, matches, strict=True)]
    if not any(kept):
        raise ValueError(f"nothing is left to train: {tuple(frozen)} match {', '.join(paths)}")
    return jax.tree.unflatten(jax.tree.structure(params), kept)


def partition(params: Params, mask: Any) -> tuple[Params, Params]:
    """Two trees: leaves where the mask is true, and the others, each ``None`` elsewhere."""
    return (
        jax.tree.map(lambda leaf, keep: leaf if keep else None, params, mask),
        jax.tree.map(lambda leaf, keep: None if keep else leaf, params, mask),
    )


def combine(first: Params, second: Params) -> Params:
    """The inverse of :func:`partition`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
    )

"""How ``jaxff fit`` solves its equations, and the record of what a solve took."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxff.cli.console import say
from jaxff.gdml import FitInfo
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.memory import peak_bytes
from jaxff.linalg.solvers import Solver

__all__ = ["Solving", "build_solver", "write_record"]


@dataclass(frozen=True)
class Solving:
    """The solver of the linear system."""

    solver: Literal["auto", "cholesky", "cg"] = "auto"
    """Factorise the matrix, iterate without forming it (conjugate gradients), or choose by size, memory and expected time."""  # noqa: E501
    preconditioner: preconditioners.Choice = "leverage"
    """How the columns of the preconditioner are chosen, for the iterative solver."""
    rank: int | None = None
    """Columns of the preconditioner; by default from a model of the cost on this machine."""
    rtol: float = 1e-4
    """Residual relative to the labels at which the iterative solver stops."""
    memory_gb: float | None = None
    """Memory that the solve may use, in GB; by default what is free."""
    checkpoint: Path | None = None
    """File to which the iterative solver writes its state every ten seconds, and from which it goes on."""  # noqa: E501


def build_solver(
    solving: Solving,
    progress: Callable[[float], None],
    remaining: Callable[[float | None], None] | None = None,
) -> Solver:
    """The solver asked for.

    Args:
        solving: What was asked for.
        progress: Called with the part that is done.
        remaining: Called with the seconds that an iterative solve still takes, as far as is known.

    Raises:
        ValueError: For options that belong to another solver, and numbers that make no sense.
    """
    memory = None if solving.memory_gb is None else solving.memory_gb * 1e9
    if memory is not None and not 0.0 < memory < float("inf"):
        raise ValueError(f"--memory-gb must be a positive number, got {solving.memory_gb}")
    if solving.solver == "cholesky":
        for name in ("rank", "checkpoint"):
            if getattr(solving, name) is not None:
                raise ValueError(f"--{name} is for --solver cg, not for cholesky")
        return solvers.cholesky(memory=memory, progress=progress)
    recipe = _preconditioner(solving, memory)
    watch = None if remaining is None else (lambda state: remaining(state.seconds_left))
    if solving.solver == "cg":
        return solvers.conjugate_gradient(
            preconditioner=recipe, rtol=solving.rtol, checkpoint=solving.checkpoint,
            progress=progress, callback=watch,
        )  # fmt: skip
    return solvers.auto(
        memory=memory, preconditioner=recipe, rtol=solving.rtol, checkpoint=solving.checkpoint,
        progress=progress, callback=watch, tell=lambda sentence: say(f"Solver: {sentence}."),
    )  # fmt: skip


def _preconditioner(solving: Solving, memory: float | None) -> preconditioners.Preconditioner:
    rank: int | str = "auto" if solving.rank is None else solving.rank
    # The factor is not all that is held: half of what is allowed, as by default.
    share = None if memory is None else 0.5 * memory
    if solving.preconditioner == "svd":
        if solving.rank is None:
            raise ValueError("--preconditioner svd needs a --rank; it is for study, see its cost")
        if memory is not None:
            raise ValueError("--preconditioner svd forms the whole matrix: leave out --memory-gb")
        return preconditioners.svd(solving.rank)
    if solving.preconditioner == "block-jacobi":
        if solving.rank is not None:
            raise ValueError("--preconditioner block-jacobi has no rank: leave out --rank")
        return preconditioners.block_jacobi()
    columns = solving.preconditioner.replace("-", "_")
    return preconditioners.nystroem(columns, rank=rank, memory=share)


def write_record(path: Path, info: FitInfo, lengthscale: float) -> None:
    """What the solve took, as JSON.

    Args:
        path: Where to.
        info: Of the fit.
        lengthscale: In the unit of the file.
    """
    peak = peak_bytes()
    record = {
        "solver": info.method.partition(":")[0],
        "choice": info.method,
        "equations": info.size,
        "lengthscale": lengthscale,
        "rank": info.rank,
        "iterations": info.iterations,
        "residual": info.residual_norm,
        "seconds": info.seconds,
        "peak_memory_gb": None if peak is None else peak * 1e-9,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")

"""Models of a configuration, fitted to the frames that are not held out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from jaxff import analysis
from jaxff.coarse.config import AnyModel, Config, check_beads
from jaxff.coarse.ensemble import Layer, fit_two_layers, predict_forces
from jaxff.coarse.inducing import fit_inducing
from jaxff.coarse.network import fit_network
from jaxff.coarse.priors import fit_prior, restore, subtract
from jaxff.coarse.sampling import Fold, block_folds, cells, draw, sizes
from jaxff.coarse.sections import Inducing, Model, Network, Single, TwoLayers
from jaxff.coarse.selection import lengthscales, regularize
from jaxff.data.dataset import Dataset
from jaxff.descriptors import chiral_distances, inverse_distances
from jaxff.kernels import Kernel, matern52
from jaxff.neighbors import lists_to_keep
from jaxff.numerics import select
from jaxff.potential import Bound
from jaxff.system import System
from jaxff.training.models import build_model
from jaxff.types import Float, Int

__all__ = ["Fitted", "Task", "fit_model", "force_matching_error", "task"]


class Fitted(NamedTuple):
    """A model and what is known of it.

    Attributes:
        model: With its prior.
        report: Numbers by name.
    """

    model: Bound
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """What all models of a configuration are fitted to and tested on.

    Attributes:
        systems: All frames.
        forces: Their labels, eV/Å.
        occupied: Cell of each frame.
        fold: Frames to fit to, and held out.
        prior: From the frames to fit to, with their weights.
    """

    systems: System
    forces: Float[np.ndarray, "frames beads 3"]
    occupied: Int[np.ndarray, " frames"]
    fold: Fold
    prior: Bound | None


def task(config: Config, beads: Dataset) -> Task:
    """Folds, cells and prior of a configuration.

    Raises:
        ValueError: If the configuration names beads that do not exist, or frames are fewer than the
            folds or replicas need.
    """
    systems, own = beads.systems, config.variables
    check_beads(config, beads.positions.shape[1])
    dihedrals = analysis.dihedrals(beads.positions, own.dihedrals)
    split = config.folds
    folds = block_folds(len(beads), split.folds, blocks=split.blocks, gap=split.gap)
    prior = None
    if config.prior is not None:
        terms = {name: getattr(config.prior, name) for name in ("bonds", "angles", "repulsive")}
        train = folds[split.fold].train
        weights = np.asarray(beads.per_frame["weights"])[train]
        prior = fit_prior(select(systems, train), config.temperature, weights=weights, **terms)
    occupied = cells(dihedrals, own.cells)
    found = Task(systems, np.asarray(beads.values["forces"]), occupied, folds[split.fold], prior)
    if config.simulate is not None and config.simulate.replicas > len(found.fold.train):
        raise ValueError(
            f"[simulate] replicas: {config.simulate.replicas} start from frames of their own, but "
            f"only {len(found.fold.train)} are not held out: ask for fewer"
        )
    return found


def fit_model(
    config: Config, name: str, task: Task, progress: Callable[[float], None] | None = None
) -> Fitted:
    """Fit one of the models to the training frames, and test it on those held out.

    Args:
        config: The configuration.
        name: Which of its models.
        task: From :func:`task`.
        progress: Called with the share that is done, where that is known.
    """
    asked = config.models[name]
    made = _FITS[type(asked)](asked, config, task, progress or (lambda share: None))
    left = force_matching_error(made.model, task)
    return Fitted(made.model, {**made.report, "held_out_mse": left, "held_out": _length(task)})


def force_matching_error(model: Bound, task: Task, most: int = 10_000) -> float:
    """Mean squared error of the forces on held-out frames, (eV/Å)² per component.

    Args:
        model: The model.
        task: From :func:`task`.
        most: Frames, at equal distances, that are looked at.
    """
    held = task.fold.held_out
    places = held[np.linspace(0, len(held) - 1, min(most, len(held))).astype(int)]
    keep = lists_to_keep(model.cutoffs, None)
    squares = 0.0
    for index in np.array_split(places, max(1, len(places) // 1000)):
        part = select(task.systems, index)
        lists = None if keep is None else keep.allocate_stack(part)
        squares += float(np.sum((predict_forces(model, part, lists) - task.forces[index]) ** 2))
    return squares / (len(places) * task.forces[0].size)


def _length(task: Task) -> int:
    return len(task.fold.held_out)


def _training(task: Task) -> tuple[System, np.ndarray, np.ndarray]:
    index = task.fold.train
    return select(task.systems, index), task.forces[index], task.occupied[index]


def _kernel(asked: Model, config: Config) -> Kernel:
    if asked.descriptor == "inverse_distances":
        return Kernel(inverse_distances, matern52)
    turns = chiral_distances(config.variables.dihedrals, weight=asked.dihedral_weight)
    return Kernel(turns, matern52)


def _lengthscale(asked: Model, config: Config, task: Task) -> float:
    """The one that is asked for, or that of the least error."""
    if asked.lengthscale is not None:
        return asked.lengthscale
    errors = _errors_by_lengthscale(_kernel(asked, config), task, config.seed)
    return min(errors, key=lambda value: errors[value])


@lru_cache(maxsize=1)  # models of a configuration are fitted one after another
def _errors_by_lengthscale(kernel: Kernel, task: Task, seed: int) -> dict[float, float]:
    systems, forces, occupied = _training(task)
    return lengthscales(kernel, systems, forces, occupied, seed=seed, prior=task.prior)


def _hyper(lengthscale: float) -> Mapping[str, Any]:
    return {"lengthscale": lengthscale}


_BEGIN, _TRIED = 0.1, 16
"""Where a search for the regularization begins, and models of the ensembles it compares."""


def _two_layers(asked: TwoLayers, config: Config, task: Task, progress: Any) -> Fitted:
    kernel, below = _kernel(asked, config), _lengthscale(asked, config, task)
    above = below if asked.second_lengthscale is None else asked.second_lengthscale
    systems, forces, occupied = _training(task)
    size = sizes(len(forces), batch=asked.batch, batches=asked.batches, second=asked.second)
    second = Layer(kernel, _hyper(above), asked.second_regularization)
    first = Layer(
        kernel, _hyper(below), _BEGIN if asked.regularization is None else asked.regularization
    )
    if asked.regularization is None:
        first, _ = regularize(
            first, second, systems, forces, occupied, block_folds(len(forces), 3)[:1],
            batch=size.batch, batches=min(_TRIED, size.batches), second=size.second,
            seed=config.seed, prior=task.prior,
        )  # fmt: skip
    made = fit_two_layers(
        systems, forces, occupied, first, second, sizes=size, seed=config.seed, prior=task.prior,
        progress=lambda models: progress(models / size.batches),
    )  # fmt: skip
    bagged = made.bagged
    report = {
        **size._asdict(),
        "lengthscale": below,
        "regularization": first.regularization,
        "seconds_per_batch": float(np.median(bagged.seconds)),
        "iterations_of_batches": float(np.mean(bagged.iterations)),
        "iterations_of_second": int(made.info.iterations),
        "standard_error_of_mean_forces": float(np.sqrt(np.mean(bagged.standard_error**2))),
    }
    return Fitted(made.model, report)


def _single(asked: Single, config: Config, task: Task, progress: Any) -> Fitted:
    systems, forces, occupied = _training(task)
    count = min(asked.frames, len(forces))
    index = draw(occupied, count, np.random.default_rng(config.seed))
    part = select(systems, index)
    scale = _lengthscale(asked, config, task)
    layer = Layer(_kernel(asked, config), _hyper(scale), asked.regularization)
    model, info = layer.fit(part, subtract(task.prior, part, forces[index]))
    report = {"frames": count, "lengthscale": scale, "iterations": int(info.iterations)}
    return Fitted(restore(task.prior, model.potential, model.params), report)


def _inducing(asked: Inducing, config: Config, task: Task, progress: Any) -> Fitted:
    systems, forces, occupied = _training(task)
    folds = block_folds(len(forces), 3) if asked.regularization is None else ()
    count, scale = min(asked.inducing, len(forces)), _lengthscale(asked, config, task)
    made = fit_inducing(
        systems, forces, occupied, _kernel(asked, config), _hyper(scale),
        inducing=count, regularization=asked.regularization, seed=config.seed,
        folds=folds, prior=task.prior,
    )  # fmt: skip
    report = {"inducing": count, "lengthscale": scale, "regularization": made.regularization}
    return Fitted(made.model, report)


def _network(asked: Network, config: Config, task: Task, progress: Any) -> Fitted:
    potential = build_model(asked.network)
    length = {"steps": asked.steps} if asked.steps is not None else {"epochs": asked.epochs}
    made = fit_network(
        potential, task.systems, task.forces, task.fold, batch_size=asked.batch_size,
        seed=config.seed, prior=task.prior, learning_rate=asked.learning_rate, **length,
    )  # fmt: skip
    return Fitted(made.model, {"steps": made.result.steps, "best_step": made.result.step})


_FITS: dict[type[AnyModel], Callable[..., Fitted]] = {
    TwoLayers: _two_layers,
    Single: _single,
    Inducing: _inducing,
    Network: _network,
}

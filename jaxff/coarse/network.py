"""Networks of mean forces: trained on the forces at each instant, whose noise averages out."""

from typing import Any, NamedTuple

import numpy as np

from jaxff.coarse.priors import restore, subtract
from jaxff.coarse.sampling import Fold
from jaxff.data.batches import batches
from jaxff.data.dataset import Dataset
from jaxff.potential import Bound, Potential
from jaxff.system import System
from jaxff.training.fit import fit
from jaxff.training.losses import weighted
from jaxff.training.run import Result

__all__ = ["Network", "fit_network"]


class Network(NamedTuple):
    """A trained model and how it came about.

    Attributes:
        model: The model, with its prior if there is one.
        result: What training gave.
    """

    model: Bound
    result: Result


def fit_network(
    potential: Potential,
    systems: System,
    forces: Any,
    fold: Fold,
    *,
    batch_size: int = 128,
    seed: int = 0,
    prior: Bound | None = None,
    **options: Any,
) -> Network:
    """Train a potential on forces of beads, the parameters of least error on the held-out frames.

    The energies of a network are added up over beads, which it tells apart by their numbers.

    Args:
        potential: For instance ``jaxff.networks.painn(8.0)``: the cutoff should span the molecule.
        systems: Stack of frames.
        forces: Forces on the beads at each instant, eV/Å.
        fold: Frames to train on, and frames to validate with.
        batch_size: Frames per step.
        seed: Of the parameters and the order of the frames.
        prior: Energy that is subtracted from the labels and added back to the model.
        options: Of :func:`jaxff.training.fit`, ``epochs`` or ``steps`` among them.
    """
    numbers = np.asarray(systems.numbers)
    if (numbers != numbers[0]).any():
        raise ValueError("all frames must list the same beads in the same order")
    labels = subtract(prior, systems, forces)
    frames = Dataset(numbers[0], np.asarray(systems.positions), {"forces": labels})
    shared: dict[str, Any] = {
        "batch_size": batch_size, "cutoffs": potential.cutoffs, "labels": ("forces",),
    }  # fmt: skip
    train = batches(frames[fold.train], seed=seed, **shared)
    valid = batches(frames[fold.held_out], **shared)
    loss = weighted(forces=1.0)
    result = fit(potential, train, valid, loss=loss, seed=seed, **options)
    return Network(restore(prior, potential, result.params), result)

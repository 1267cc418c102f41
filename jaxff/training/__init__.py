"""Training and testing of potentials."""

from jaxff.training import losses
from jaxff.training.batch import Batch, stack_batches
from jaxff.training.checkpoints import Checkpoints
from jaxff.training.fit import fit
from jaxff.training.journal import Plateau
from jaxff.training.leakage import shared_geometries
from jaxff.training.loop import Info, State, Trainer, trainer
from jaxff.training.losses import Loss, Term, weighted
from jaxff.training.metrics import errors, predict, table
from jaxff.training.run import NotFiniteError, Result
from jaxff.training.selection import parameter_paths
from jaxff.training.validation import Measured, validate

__all__ = [
    "Batch",
    "Checkpoints",
    "Info",
    "Loss",
    "Measured",
    "NotFiniteError",
    "Plateau",
    "Result",
    "State",
    "Term",
    "Trainer",
    "errors",
    "fit",
    "losses",
    "parameter_paths",
    "predict",
    "shared_geometries",
    "stack_batches",
    "table",
    "trainer",
    "validate",
    "weighted",
]

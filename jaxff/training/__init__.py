"""Training and testing of potentials."""

from jaxff.data.batch import Batch
from jaxff.training import losses
from jaxff.training.batch import stack_batches
from jaxff.training.checkpoints import Checkpoints
from jaxff.training.config import Config, read_config
from jaxff.training.ensemble import ensemble, ensemble_trainer, member, spread, stack_members
from jaxff.training.fit import fit
from jaxff.training.journal import Plateau
from jaxff.training.leakage import shared_geometries
from jaxff.training.loop import Info, State, Trainer, trainer
from jaxff.training.losses import Loss, Term, weighted
from jaxff.training.metrics import errors, predict, table
from jaxff.training.run import NotFiniteError, Result
from jaxff.training.selection import parameter_paths
from jaxff.training.validation import Measured, validate
from jaxff.training.workflow import Job, prepare

__all__ = [
    "Batch",
    "Checkpoints",
    "Config",
    "Info",
    "Job",
    "Loss",
    "Measured",
    "NotFiniteError",
    "Plateau",
    "Result",
    "State",
    "Term",
    "Trainer",
    "ensemble",
    "ensemble_trainer",
    "errors",
    "fit",
    "losses",
    "member",
    "parameter_paths",
    "predict",
    "prepare",
    "read_config",
    "shared_geometries",
    "spread",
    "stack_batches",
    "stack_members",
    "table",
    "trainer",
    "validate",
    "weighted",
]

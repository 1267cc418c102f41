"""The sections of a configuration of ``jaxff coarse-grain``, with their meaning."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from jaxff.training.sections import Source

__all__ = [
    "Compare",
    "Folds",
    "Inducing",
    "Map",
    "Model",
    "Network",
    "Prior",
    "Simulate",
    "Single",
    "Trajectory",
    "TwoLayers",
    "Variables",
]

Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Trajectory(Source):
    """The section ``[data]``: files one after another; wildcards stand for files in their order."""

    topology: str | None = None
    """File that names the atoms of a trajectory which MDAnalysis reads, such as .trr."""
    weights_key: str | None = None
    """Npz: name of the weights of frames, the inverse Boltzmann factors of a bias."""


@dataclass(frozen=True)
class Map:
    """The section ``[map]``, from atoms to beads; without it frames are of beads already."""

    atoms: tuple[int, ...] = ()
    """Atoms that are kept as beads, counted from 0."""
    groups: Rows = ()
    """Instead: atoms of each bead, at their centre of mass."""
    numbers: tuple[int, ...] = ()
    """What beads are called, positive integers; with atoms their atomic numbers, with groups 1, 2, ... unless said otherwise."""  # noqa: E501
    forces: str = "optimal"
    """Map of the forces: optimal (of least noise) or basic (sums over the atoms of a bead)."""
    constraints: bool = True
    """Look for rigid bonds in the trajectory, which the map of the forces must not cut."""

    def __post_init__(self) -> None:
        if bool(self.atoms) == bool(self.groups):
            raise ValueError("[map] needs either atoms or groups")
        _known("[map] forces", self.forces, ("optimal", "basic"))


@dataclass(frozen=True)
class Prior:
    """The section ``[prior]``: energies that are subtracted from the labels and added back."""

    bonds: Rows = ()
    """Pairs of beads on springs, by Boltzmann inversion."""
    angles: Rows = ()
    """Triples of beads, likewise."""
    repulsive: Rows = ()
    """Pairs of beads that repel below the shortest distance that was sampled."""

    def __post_init__(self) -> None:
        for name, width in (("bonds", 2), ("angles", 3), ("repulsive", 2)):
            _different(f"[prior] {name}", getattr(self, name), width)


@dataclass(frozen=True)
class Variables:
    """The section ``[variables]``: dihedrals over whose states frames are spread."""

    dihedrals: Rows = ()
    """Quadruples of beads."""
    names: tuple[str, ...] = ()
    """Their names in figures."""
    cells: int = 300
    """Cells along each, over which batches are spread."""

    def __post_init__(self) -> None:
        if not self.dihedrals:
            raise ValueError("[variables] dihedrals must be lists of four beads, at least one")
        _different("[variables] dihedrals", self.dihedrals, 4)
        names = set(self.names)
        if self.names and not len(self.names) == len(names) == len(self.dihedrals):
            raise ValueError(
                f"[variables] names must be {len(self.dihedrals)} different ones, one per dihedral"
            )
        if self.cells < 1:
            raise ValueError(f"[variables] cells must be at least 1, got {self.cells}")
        if self.cells ** len(self.dihedrals) > 2**62:
            raise ValueError(
                f"[variables]: {self.cells} cells along each of {len(self.dihedrals)} dihedrals "
                "are too many to count: take fewer cells"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names, made up where none are given."""
        return self.names or tuple(f"dihedral {i + 1}" for i in range(len(self.dihedrals)))


@dataclass(frozen=True)
class Folds:
    """The section ``[folds]``: which frames are held out of all fits, to test them on."""

    folds: int = 5
    """One of so many parts of the trajectory is held out."""
    fold: int = 0
    """Which, counted from 0."""
    blocks: int = 4
    """Contiguous blocks of each part."""
    gap: int = 0
    """Frames on either side of a held-out block that are left out of the fit."""

    def __post_init__(self) -> None:
        if not 0 <= self.fold < self.folds:
            raise ValueError(f"[folds] fold must be 0 to {self.folds - 1}, got {self.fold}")


@dataclass(frozen=True)
class Model:
    """What all kernel models have in common."""

    kind: str
    """What the model is: two_layers, single, inducing or network."""
    descriptor: str = "chiral_distances"
    """What the kernel sees of the beads: chiral_distances (with the dihedrals) or inverse_distances."""  # noqa: E501
    dihedral_weight: float = 0.3
    """Weight of the sines and cosines of dihedrals beside inverse distances in 1/Å."""
    lengthscale: float | None = None
    """Length scale of the Matérn kernel of order 5/2; unless said, that of the least error of a model of inducing frames on thirds of the training frames (10,000 of them at most)."""  # noqa: E501

    def __post_init__(self) -> None:
        known = ("chiral_distances", "inverse_distances")
        _known(f"[models] {self.kind}: descriptor", self.descriptor, known)
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and not 0 < value < float("inf"):
                raise ValueError(f"[models] {self.kind}: {each.name} must be positive, got {value}")


@dataclass(frozen=True)
class TwoLayers(Model):
    """An ensemble, and one model of its mean forces."""

    regularization: float | None = None
    """Of the first layer, relative to the mean diagonal of the kernel matrix; unless said, that of the least error on a third of the training frames."""  # noqa: E501
    second_lengthscale: float | None = None
    """Of the second layer; that of the first unless said otherwise."""
    second_regularization: float = 1e-3
    """Of the second layer."""
    batch: int = 1000
    """Most frames of a batch."""
    batches: int = 1000
    """Models of the ensemble."""
    second: int = 3000
    """Most frames of the second layer."""


@dataclass(frozen=True)
class Single(Model):
    """A baseline: one model of instantaneous forces, without an ensemble."""

    regularization: float = 1e-3
    """Relative to the mean diagonal of the kernel matrix."""
    frames: int = 1000
    """Most frames to fit to, spread over the cells."""


@dataclass(frozen=True)
class Inducing(Model):
    """One model of all frames by a few of them, in one pass."""

    regularization: float | None = None
    """Relative to the mean diagonal of the kernel matrix; unless said, that of the least error on folds of the training frames."""  # noqa: E501
    inducing: int = 200
    """Most frames that carry coefficients."""


@dataclass(frozen=True)
class Network:
    """A network, trained on instantaneous forces; the held-out frames choose its parameters."""

    kind: str
    """What the model is: network."""
    network: dict[str, Any] = field(default_factory=dict)
    """Name and arguments of the network, as in [model] of jaxff train."""
    steps: int | None = None
    """Steps in all; this or epochs."""
    epochs: int | None = None
    """Passes over the frames in all."""
    batch_size: int = 128
    """Frames per step."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("[models] network: give either steps or epochs")
        for name in ("steps", "epochs", "batch_size", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"[models] network: {name} must be positive, got {value}")


@dataclass(frozen=True)
class Simulate:
    """The section ``[simulate]``: Langevin dynamics of many replicas."""

    steps: int
    """Steps of every replica."""
    ensemble: str = "overdamped"
    """Which dynamics: overdamped, or langevin (with the masses of the beads)."""
    timestep: float | None = None
    """Time step in fs, which langevin needs; of overdamped dynamics with a mobility of 1 in Å²/eV, and 0.002 unless said otherwise."""  # noqa: E501
    mobility: float | None = None
    """Of overdamped dynamics in Å²/(eV fs); 1 unless a friction is given."""
    friction: float | None = None
    """Of langevin dynamics, in 1/fs; of overdamped dynamics in place of a mobility."""
    replicas: int = 100
    """Runs side by side, from frames spread over the cells."""
    every: int = 100
    """Steps between frames."""
    masses: tuple[float, ...] = ()
    """Of the beads in amu; those that follow from the map, or from the numbers of the beads, unless said otherwise."""  # noqa: E501
    discard: float = 0.1
    """Part of every run, at its start, that does not count."""

    def __post_init__(self) -> None:
        _known("[simulate] ensemble", self.ensemble, ("overdamped", "langevin"))
        if not 0 <= self.discard < 1:
            raise ValueError(f"[simulate] discard must be 0 or more, below 1, got {self.discard}")
        for name in ("steps", "replicas", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"[simulate] {name} must be at least 1")
        if self.ensemble == "langevin" and (
            None in (self.friction, self.timestep) or self.mobility is not None
        ):
            raise ValueError(
                "[simulate] langevin needs a timestep in fs and a friction in 1/fs, and no mobility"
            )
        for name in ("timestep", "mobility", "friction", "masses"):
            value = getattr(self, name)
            if value is not None and not all(0 < v < np.inf for v in np.atleast_1d(value)):
                raise ValueError(f"[simulate] {name} must be positive, got {value}")
        if self.steps < self.every:
            raise ValueError(
                f"[simulate]: {self.steps} steps hold no frame, one every {self.every}"
            )
        if self.friction is not None and self.mobility is not None:
            raise ValueError("[simulate]: give friction or mobility, not both")

    @property
    def step(self) -> float:
        """Time step in fs."""
        return 0.002 if self.timestep is None else self.timestep


@dataclass(frozen=True)
class Compare:
    """The section ``[compare]``: free energies of models beside those of the trajectory."""

    bins: int = 36
    """Bins of the surfaces along each variable."""
    below: float = 4.0
    """Free energy in kT up to which bins count in the mean squared difference."""
    states: dict[str, Any] = field(default_factory=dict)
    """Names of states and, for each variable, an interval in degrees, as in { alpha = [[-100, -40], [-90, 0]] }."""  # noqa: E501
    center: tuple[int, ...] = ()
    """A centre and three beads around it, whose inversions are counted."""

    def __post_init__(self) -> None:
        if self.bins < 1 or not 0 < self.below < float("inf"):
            raise ValueError(
                "[compare] bins must be at least 1 and below positive, got "
                f"{self.bins} and {self.below}"
            )
        for name, intervals in self.states.items():
            fine = isinstance(intervals, list) and all(
                isinstance(each, list)
                and len(each) == 2
                and all(isinstance(end, int | float) for end in each)
                for each in intervals
            )
            if not fine:
                raise ValueError(
                    f"[compare] states {name} must be a list of intervals [first, last], one per "
                    f"variable, got {intervals!r}"
                )
        if self.center:
            _different("[compare] center", (self.center,), 4)

    @property
    def intervals(self) -> dict[str, list[tuple[float, float]]]:
        """Interval of each state along each variable, degrees."""
        return {name: [(float(a), float(b)) for a, b in each] for name, each in self.states.items()}


def _different(where: str, rows: Rows, width: int) -> None:
    """Refuse rows that are not so many different beads, counted from 0."""
    for row in rows:
        if len(row) != width or len(set(row)) < width or min(row) < 0:
            raise ValueError(f"{where}: expected {width} different beads from 0, got {list(row)}")


def _known(where: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{where} must be {' or '.join(known)}, got {value!r}")

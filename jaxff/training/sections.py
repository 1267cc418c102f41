"""The sections of a configuration whose options are the library's own, with their meaning."""

from dataclasses import dataclass, field
from typing import Any

from jaxff.training.checks import check_course
from jaxff.training.journal import Plateau

__all__ = ["Data", "Part", "Source", "Training"]


@dataclass(frozen=True)
class Source:
    """A file of frames and how to read it; what is left out is as the reader of the format has it.

    See :func:`jaxff.data.read_frames`.
    """

    path: str | tuple[str, ...] | None = None
    """File, or files one after another: .npz, .xyz, .extxyz, .db, .json, .h5 or .hdf5; relative to the configuration, with environment variables such as $HOME."""  # noqa: E501
    energy_key: str | None = None
    """Name of the energies in the file; E in npz files unless said otherwise."""
    forces_key: str | None = None
    """Name of the forces; F in npz files unless said otherwise."""
    gradient_key: str | None = None
    """HDF5: name of the gradients, the negative of the forces."""
    stress_key: str | None = None
    """Extended XYZ and ASE databases: name of the stress, positive under tension."""
    virial_key: str | None = None
    """Extended XYZ: name of the virial, minus volume times stress."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Further labels: name in jaxff, and its name and unit in the file, as in { dipole = ["mu", "e*Ang"] }."""  # noqa: E501
    energy_unit: str | None = None
    """Unit of the energies where the file does not say it; extended XYZ: eV unless said otherwise."""  # noqa: E501
    length_unit: str | None = None
    """Unit of the positions where the file does not say it; extended XYZ: Ang unless said otherwise."""  # noqa: E501
    forces_unit: str | None = None
    """Npz: unit of the forces, if it is not energy unit per length unit."""
    charge_key: str | None = None
    """Name of the total charge in e; charge in extended XYZ and ASE databases unless said otherwise, and always in npz files."""  # noqa: E501
    spin_key: str | None = None
    """Name of the number of unpaired electrons; unpaired_electrons in extended XYZ unless said otherwise, and spin in npz files."""  # noqa: E501
    group_key: str | None = None
    """Extended XYZ and ASE databases: name of the name of the molecule, for draw = "group"."""
    nan_is_missing: bool | None = None
    """HDF5: take labels that are not a number as missing."""
    skip_invalid: bool = False
    """Leave out frames that are not finite or have two atoms at one point, instead of refusing."""


@dataclass(frozen=True)
class Part(Source):
    """Frames to train, validate or test with: all of a file of its own, or some of a file.

    Options of the file take the place of those of ``[data]``.
    """

    split: str | None = None
    """Name of an array of indices, or mask: in the npz file, or in index_file."""
    index_file: str | None = None
    """Npz file that holds split, if it is not in the file of the frames."""
    count: int | None = None
    """So many frames, drawn from split or from what the other parts leave."""
    fraction: float | None = None
    """Instead: this part of the frames."""


@dataclass(frozen=True)
class Data(Source):
    """The section ``[data]``: where frames come from, and how they become batches.

    ``train``, ``valid`` and ``test`` are a count, a fraction below 1, the path of a file, or a
    table.

    Raises:
        ValueError: For numbers out of range.
    """

    train: Part = field(default_factory=Part)
    """Frames to train on."""
    valid: Part | None = None
    """Frames to choose the best parameters with."""
    test: Part | None = None
    """Frames to test the best parameters on, at the end."""
    draw: str = "random"
    """How counts and fractions are drawn: random; composition (every composition has its share); group (conformers of a molecule stay together)."""  # noqa: E501
    seed: int = 0
    """Of that draw. The order of batches follows from the seed of [training]."""
    batch_size: int = 10
    """Structures per batch, of each device and accumulated part."""
    valid_batch_size: int | None = None
    """Structures per batch of validation and test; batch_size unless said otherwise."""
    drop_last: bool = False
    """Leave out what does not fill the last batch of an epoch."""
    layout: str = "auto"
    """Lists of pairs: rows, flat, or auto, whichever wastes less."""
    max_compilations: int = 5
    """The most shapes of batches, each of which is compiled."""
    cache_gb: float | None = None
    """Memory for frames and pairs, in GB; a quarter of what is free unless said otherwise."""
    prefetch: int = 2
    """Batches that a thread makes ahead."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Charge or spin of frames that do not say it, as in { charge = 0 }."""
    reference_energies: bool | dict[str, Any] = True
    """Take energies of the elements off, by least squares over the training frames, and add them in the model again; or energies of atoms in eV, as in { H = -13.6 }, others by least squares; or false."""  # noqa: E501

    def __post_init__(self) -> None:
        least = {"seed": 0, "batch_size": 1, "valid_batch_size": 1, "max_compilations": 1,
                 "cache_gb": 0, "prefetch": 0}  # fmt: skip
        for name, bound in least.items():
            if (value := getattr(self, name)) is not None and value < bound:
                raise ValueError(f"[data] {name} must be at least {bound}, got {value}")


@dataclass(frozen=True)
class Training:
    """The section ``[training]``: options of :func:`jaxff.training.fit`, with the same meaning.

    Raises:
        ValueError: For numbers out of range, or unless there are steps or epochs.
    """

    steps: int | None = None
    """Steps in all; this or epochs."""
    epochs: int | None = None
    """Passes over the data in all."""
    seed: int = 0
    """Of the parameters, of what is random in steps and of the order of the data."""
    ema: float | None = 0.999
    """Decay of the moving average of the parameters; 0 for none."""
    debias: bool = True
    """Whether the average begins with the first step instead of the first parameters."""
    clip: float | None = None
    """Largest norm of the gradient."""
    frozen: tuple[str, ...] = ()
    """Regular expressions of whole paths of parameters that are kept."""
    accumulate: int = 1
    """Batches that are done one after the other, and count as one."""
    devices: int = 1
    """Devices, each of which takes a batch of every step."""
    validate_every: int | None = None
    """Steps between validations; an epoch unless said otherwise."""
    monitor: str = "loss"
    """What is to become small: loss, or an error such as forces/mae."""
    patience: int | None = None
    """Stop after this many validations without a new best."""
    plateau: Plateau | None = None
    """When the learning rate falls."""
    checkpoints: str | None = None
    """Folder for checkpoints, relative to the file; a run that was stopped goes on from there."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; after every validation unless said otherwise."""
    keep: int = 3
    """Checkpoints that are kept."""
    log: str | None = None
    """File for one line of JSON per validation, relative to the configuration."""
    units: dict[str, str] = field(default_factory=dict)
    """Units to report errors in, by label; those of an npz file unless said otherwise."""

    def __post_init__(self) -> None:
        try:
            check_course(
                steps=self.steps, epochs=self.epochs, seed=self.seed, keep=self.keep,
                validate_every=self.validate_every, checkpoint_every=self.checkpoint_every,
                patience=self.patience,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"[training] {error}") from error

"""A configuration carried out: frames, batches, reference energies, training, test."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.data.batches import Batches, batches
from jaxff.data.frames import Frames
from jaxff.data.references import ReferenceEnergies, reference_energies
from jaxff.potential import Potential, bind, scale_shift
from jaxff.training.config import Config
from jaxff.training.run import Result
from jaxff.training.sections import Data
from jaxff.training.sources import Parts, open_parts
from jaxff.training.validation import validate
from jaxff.types import Params

__all__ = ["Job", "prepare"]


@dataclass(frozen=True, eq=False)
class Job:
    """A training run with its data; made by :func:`prepare`.

    Attributes:
        config: The configuration.
        network: What is trained.
        model: The same with the reference energies: what is used.
        reference: Energies of the elements, if they are taken off.
        train: Batches to train on.
        valid: Batches to validate with, if any.
        test: Batches to test with, if any.
        units: Units to report errors in, by label.
    """

    config: Config
    network: Potential
    model: Potential
    reference: ReferenceEnergies | None
    train: Batches
    valid: Batches | None
    test: Batches | None
    units: Mapping[str, str]

    @property
    def steps(self) -> int:
        """Steps in all, if nothing ends the run before."""
        training = self.config.training
        return training.steps or len(self.train) * (training.epochs or 0)

    def parameter_shapes(self) -> Params:
        """Shapes and types of the parameters; nothing is computed."""
        batch = self.train.batch(0, 0)
        if self.config.training.accumulate * self.config.training.devices > 1:
            batch = jax.tree.map(lambda leaf: leaf[0], batch)
        given = jax.tree.map(jnp.asarray, (batch.system, batch.neighbors))
        return jax.eval_shape(lambda key: self.network.init(key, *given), jax.random.key(0))

    def check(self) -> None:
        """See that the loss can be computed here; nothing is.

        Raises:
            ValueError: If the model does not take such frames, or lacks what the loss needs, or
                there are fewer devices than asked for.
        """
        self.config.devices()
        batch, loss = self.train.batch(0, 0), self.config.terms()
        if self.config.training.accumulate * self.config.training.devices > 1:
            batch = jax.tree.map(lambda leaf: leaf[0], batch)
        batch = jax.tree.map(jnp.asarray, batch)
        jax.eval_shape(
            lambda params: loss(bind(self.network, params), batch, key=jax.random.key(0)),
            self.parameter_shapes(),
        )

    def parameters(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.parameter_shapes()))

    def fit(self, **options: Any) -> Result:
        """Train; ``options`` are others of :func:`jaxff.training.fit`.

        The parameters of the result are those of :attr:`model`.
        """
        return self.config.fit(
            self.train, self.valid, potential=self.network, **{"units": self.units, **options}
        )

    def test_errors(self, params: Params) -> dict[str, dict[str, Any]]:
        """Errors on the test frames, as :func:`jaxff.training.errors` gives them.

        Raises:
            ValueError: If there are none.
        """
        if self.test is None:
            raise ValueError("the configuration names no test frames: say [data] test")
        loss = self.config.terms()
        return validate(self.network, loss, params, self.test.epoch(), units=self.units).errors


def prepare(config: Config, progress: Callable[[str, int, int], None] | None = None) -> Job:
    """Read the frames of a configuration and prepare their batches.

    Potentials without cutoffs, which see all pairs, get stacks of structures, others packs.

    Args:
        config: With a section ``[data]``.
        progress: Called with the name of a part, the frames of it that have been read, and all.

    Raises:
        ValueError: If there is no such section, the data cannot be read as it says, or they lack
            what the loss or the model needs.
        FileNotFoundError: If a file does not exist.
    """
    data = config.data
    if data is None:
        raise ValueError("the configuration has no section [data]: add it, or call Config.fit")
    network, parts = config.potential(), open_parts(data, config.folder)
    reference = _reference(config, data, parts.train)
    loaders = {}
    for name in ("train", "valid", "test"):
        frames = getattr(parts, name)
        loaders[name] = None if frames is None else _batches(
            config, data, network, reference, frames, name,
            None if progress is None else _counted(progress, name, len(frames)),
        )  # fmt: skip
    _check_elements(network, loaders)
    _warn_of_repeats(loaders["train"], [loaders[name] for name in ("valid", "test")])
    _warn_of_loners(loaders["train"])
    values = None if reference is None else reference.values
    model = network if values is None else scale_shift(network, 1.0, values)
    units = {**_known(parts, config), **config.training.units}
    return Job(config, network, model, reference, **loaders, units=units)


def _reference(config: Config, data: Data, train: Frames) -> ReferenceEnergies | None:
    if data.reference_energies is False or "energy" not in config.terms().labels:
        return None
    given: dict[str | int, float] = {}
    if data.reference_energies is not True:
        given.update(data.reference_energies)
    return reference_energies(train, given)


def _batches(
    config: Config,
    data: Data,
    network: Potential,
    reference: ReferenceEnergies | None,
    frames: Frames,
    name: str,
    progress: Callable[[int], None] | None,
) -> Batches:
    training, is_train = config.training, name == "train"
    together = training.accumulate * training.devices
    size = data.batch_size if is_train else data.valid_batch_size or data.batch_size
    try:
        return batches(
            frames,
            batch_size=size,
            cutoffs=network.cutoffs,
            labels=config.terms().labels,
            uses=network.uses,
            defaults=data.defaults,
            reference_energies=None if reference is None else reference.values,
            seed=training.seed if is_train else None,
            drop_last=data.drop_last and is_train,
            devices=together if is_train and together > 1 else None,
            form="pack" if network.cutoffs else "stack",
            layout=data.layout if network.cutoffs else "rows",
            max_compilations=data.max_compilations,
            cache_bytes=None if data.cache_gb is None else int(data.cache_gb * 1e9),
            prefetch=data.prefetch,
            progress=progress,
        )
    except ValueError as error:
        raise ValueError(f"[data] {name}: {error}") from error


def _check_elements(network: Potential, loaders: Mapping[str, Batches | None]) -> None:
    """Neither elements that the network has no place for, nor such as it never sees in training.

    Raises:
        ValueError: Naming them.
    """
    options = {} if network.spec is None else network.spec.arguments
    place = options.get("elements") or range(1, options.get("max_number", 118) + 1)
    seen = {name: set(own.found.elements) for name, own in loaders.items() if own is not None}
    for name, elements in seen.items():
        if outside := sorted(elements - set(place)):
            raise ValueError(
                f"[data] {name} has the atomic numbers {outside}, for which the network has no "
                "place: see [model] elements or max_number"
            )
        if unseen := sorted(elements - seen["train"]):
            raise ValueError(
                f"[data] {name} has the atomic numbers {unseen}, which no training frame has: the "
                "network would know nothing of them"
            )


def _warn_of_repeats(train: Batches, others: Sequence[Batches | None]) -> None:
    """Equal geometries on both sides make errors look smaller than they are."""
    known = train.found.geometries
    repeats = sum(int(np.isin(own.found.geometries, known).sum()) for own in others if own)
    if repeats:
        warnings.warn(
            f"{repeats} validation or test frames repeat training frames: errors look too small",
            stacklevel=3,
        )


def _warn_of_loners(train: Batches) -> None:
    """A network with a cutoff knows nothing of atoms without neighbours but their element."""
    found = train.found
    for cutoff, pairs in zip(train.plan.cutoffs, found.pairs.T, strict=True):
        if alone := int(((pairs == 0) & (found.sizes > 1)).sum()):
            warnings.warn(
                f"{alone} of {len(pairs)} training frames of several atoms have no pair within the "
                f"cutoff of {cutoff:g} Å: their forces are zero; is it too small, or the length "
                "unit wrong?",
                stacklevel=3,
            )


def _counted(
    progress: Callable[[str, int, int], None], name: str, total: int
) -> Callable[[int], None]:
    return lambda done: progress(name, done, total)


def _known(parts: Parts, config: Config) -> dict[str, str]:
    return {n: unit for n, unit in parts.units.items() if n in config.terms().labels}

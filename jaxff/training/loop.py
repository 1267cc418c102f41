"""The training step: a pure function of a state and a batch, compiled into one call.

:func:`jaxff.training.fit` runs it; whoever writes a loop of their own starts here::

    steps = trainer(potential, weighted(energy=1.0, forces=10.0), optax.adam(1e-3), ema=0.999)
    state = steps.init(jax.random.key(0), batch)
    for batch in batches:
        state, info = steps.step(state, batch)
    energy_fn = bind(potential, state.averaged)

A step returns before the device has finished it. Numbers of ``info`` are best read some steps
later, so that the device never waits.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxff.data.batch import Batch
from jaxff.potential import Potential
from jaxff.training.batch import leading
from jaxff.training.gradients import gradients
from jaxff.training.losses import Loss, Sums
from jaxff.training.selection import combine, partition, trainable_mask
from jaxff.types import Array, Bool, Float, Int, Params

__all__ = ["Info", "State", "Trainer", "trainer"]


class State(NamedTuple):
    """All that changes during training.

    Attributes:
        params: Parameters of the potential.
        optimizer: State of the optimiser, for the parameters that are trained.
        average: Exponential moving average of the parameters; ``None`` without one.
        step: Steps done.
        key: What is random in a step is drawn from it and the number of the step.
        rate: Factor of the learning rate.
        finite: False from the first step on whose loss or gradient was not finite. Such a step and
            all later ones leave the state as it is.
    """

    params: Params
    optimizer: Any
    average: Params
    step: Int[Array, "*members"]
    key: Array
    rate: Float[Array, "*members"]
    finite: Bool[Array, "*members"]

    @property
    def averaged(self) -> Params:
        """The moving average if there is one, else the parameters: what to validate and to use."""
        return self.params if self.average is None else self.average


class Info(NamedTuple):
    """What a step found, before it changed anything.

    Attributes:
        loss: Of the batch.
        terms: Sum and count of every term, unweighted.
        gradient_norm: Euclidean norm of the gradient by the trained parameters, before clipping.
        finite: Whether loss and gradient are finite.
    """

    loss: Float[Array, "*members"]
    terms: dict[str, Sums]
    gradient_norm: Float[Array, "*members"]
    finite: Bool[Array, "*members"]


@dataclass(frozen=True, eq=False)
class Trainer:
    """How to train a potential; made by :func:`trainer`.

    Attributes:
        potential: What is trained.
        loss: What is minimised.
        optimizer: How.
        ema: Decay of the moving average; ``None`` for no average.
        debias: Whether the average begins with the first step instead of the first parameters.
        clip: Largest norm of the gradient.
        frozen: Regular expressions of the paths of parameters that are kept.
        accumulate: Parts in which the batches of a leading axis are done one after the other.
        mesh: Devices over which a leading axis is spread.
    """

    potential: Potential
    loss: Loss
    optimizer: Any
    ema: float | None = None
    debias: bool = True
    clip: float | None = None
    frozen: tuple[str, ...] = ()
    accumulate: int = 1
    mesh: Mesh | None = None

    def init(self, key: Array, batch: Batch, params: Params | None = None) -> State:
        """State before the first step.

        Args:
            key: Of the parameters and of all that is random later.
            batch: Any batch: parameters are made for systems like these.
            params: Parameters to start from, instead of those of ``potential.init``.
        """
        import optax  # needed by training alone

        own, later = jax.random.split(key)
        if params is None:
            one = jax.tree.map(lambda leaf: leaf[0], batch) if leading(batch) else batch
            given = jax.tree.map(jnp.asarray, (one.system, one.neighbors))
            params = self.potential.init(own, *given)
        # A step gives up the buffers of its state: those of the caller must not be among them.
        # Numbers of Python get a type of their own, which the first step would change.
        params = jax.tree.map(
            lambda leaf: jnp.array(leaf, jnp.result_type(leaf), copy=True), params
        )
        chosen, _ = partition(params, trainable_mask(params, self.frozen))
        state = State(
            params,
            optax.with_extra_args_support(self.optimizer).init(chosen),
            None if self.ema is None else jax.tree.map(jnp.copy, params),
            jnp.zeros((), jnp.int32),
            later,
            jnp.ones((), jnp.float32),
            jnp.ones((), bool),
        )
        return self.replicated(state)

    def replicated(self, tree: Any) -> Any:
        """Copies on all devices of the mesh."""
        return tree if self.mesh is None else jax.device_put(tree, NamedSharding(self.mesh, P()))

    def place(self, batch: Batch) -> Batch:
        """A batch spread over the mesh; returns before it is there.

        Without a mesh it stays as it is: a compiled function takes host arrays sooner than
        ``jax.device_put`` does.
        """
        if self.mesh is None:
            return batch
        return jax.device_put(batch, NamedSharding(self.mesh, P(self.mesh.axis_names[0])))

    @functools.cached_property
    def step(self) -> Callable[[State, Batch], tuple[State, Info]]:
        """:meth:`update`, compiled; the buffers of the state it is given are used again."""
        return jax.jit(functools.partial(_training_step, self), donate_argnums=0)

    def update(self, state: State, batch: Batch) -> tuple[State, Info]:
        """One step."""
        import optax

        key = jax.random.fold_in(state.key, state.step)
        chosen, fixed = partition(state.params, trainable_mask(state.params, self.frozen))
        gradient, terms = gradients(
            self.potential, self.loss, chosen, fixed, batch, key, state.step,
            accumulate=self.accumulate, mesh=self.mesh,
        )  # fmt: skip
        loss = self.loss.total(terms, state.step)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        info = Info(loss, terms, norm, finite)
        if self.clip is not None:
            factor = jnp.minimum(1.0, self.clip / jnp.maximum(norm, self.clip))
            gradient = jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), gradient)
        changes, optimizer = optax.with_extra_args_support(self.optimizer).update(
            gradient, state.optimizer, chosen, value=loss, grad=gradient
        )
        # What is not finite changes nothing. Selecting here is cheaper than among all of the state.
        good = state.finite & finite
        changes = jax.tree.map(
            lambda leaf: jnp.where(good, leaf * state.rate.astype(leaf.dtype), 0), changes
        )
        params = combine(optax.apply_updates(chosen, changes), fixed)
        optimizer = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), optimizer, state.optimizer
        )
        return State(
            params,
            optimizer,
            self._average(state, params, good),
            jnp.where(good, state.step + 1, state.step),
            state.key,
            state.rate,
            good,
        ), info

    def _average(self, state: State, params: Params, good: Array) -> Params:
        """The average a moves towards the parameters by a rate of ``1 - ema``.

        Without bias, after step t, by ``(1 - ema) / (1 - ema**t)``: the weights of all parameters
        seen so far add up to one, and the first ones count like any other.
        """
        if self.ema is None:
            return None
        rate = jnp.asarray(1.0 - self.ema)
        if self.debias:
            steps = (state.step + 1).astype(rate.dtype)
            rate = rate / -jnp.expm1(steps * float(np.log(self.ema))) if self.ema else rate
        rate = jnp.where(good, rate, 0)
        return jax.tree.map(
            # Exactly equal where nothing changes.
            lambda old, new: (
                old + rate.astype(old.dtype) * (new - old)
                if jnp.issubdtype(jnp.result_type(new), jnp.floating)
                else new
            ),
            state.average,
            params,
        )


# Its name is what counts of compilations look for.
def _training_step(steps: Trainer, state: State, batch: Batch) -> tuple[State, Info]:
    return steps.update(state, batch)


def trainer(
    potential: Potential,
    loss: Loss,
    optimizer: Any,
    *,
    ema: float | None = None,
    debias: bool = True,
    clip: float | None = None,
    frozen: Sequence[str] = (),
    accumulate: int = 1,
    devices: Sequence[Any] | None = None,
) -> Trainer:
    r"""How to train a potential.

    Batches may come several at once along a leading axis: they count as one batch, are spread over
    ``devices`` and done in ``accumulate`` parts one after the other, with the same result.

    Args:
        potential: What is trained.
        loss: What is minimised.
        optimizer: Of optax.
        ema: Decay d of the moving average of parameters, :math:`a_t = d\,a_{t-1} + (1 - d)\,p_t`;
            ``None`` for no average.
        debias: Divide the average by :math:`1 - d^t`, as if it had begun with zeros; else it
            begins with the first parameters, which then keep the weight :math:`d^t`.
        clip: Gradients of a larger norm are scaled down to this one.
        frozen: Regular expressions; parameters whose whole path, such as ``"params/dense/kernel"``,
            matches one stay as they are, bit for bit.
        accumulate: Parts in which a leading axis is done; each takes the memory of one.
        devices: Over which a leading axis is spread; ``None`` for the default device.

    Raises:
        ValueError: For numbers out of range.
    """
    if ema is not None and not 0 <= ema < 1:
        raise ValueError(f"ema must be from 0 to below 1, got {ema}")
    if clip is not None and not 0 < clip < float("inf"):
        raise ValueError(f"clip must be positive, got {clip}")
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate}")
    mesh = None if devices is None else Mesh(np.array(devices), ("batch",))
    return Trainer(potential, loss, optimizer, ema, debias, clip, tuple(frozen), accumulate, mesh)

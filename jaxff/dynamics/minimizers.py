"""Minimisers as pure steps over one array of rows: FIRE and L-BFGS.

A minimiser proposes a trial, is told its value and gradient, and says where to go on from; it never
evaluates anything, so any loop can drive it. Rows are atoms (Å), and for a variable cell three rows
of scaled strain; no row moves farther than ``max_step`` at once.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxff.types import Array, Bool, Float, Int

__all__ = ["Fire", "Lbfgs", "Minimizer", "Point"]


class Point(NamedTuple):
    """A place with its value (eV) and gradient."""

    x: Float[Array, "rows 3"]
    value: Float[Array, ""]
    gradient: Float[Array, "rows 3"]


class Minimizer(Protocol):
    """What a descent loop asks of a minimiser."""

    def init(self, point: Point, max_step: Array) -> Any:
        """State at the first point."""
        ...

    def propose(self, state: Any, point: Point, max_step: Array) -> Float[Array, "rows 3"]:
        """The next place to evaluate."""
        ...

    def digest(
        self, state: Any, point: Point, trial: Point, noise: Array, max_step: Array
    ) -> tuple[Any, Point]:
        """State and point after the trial, which may be refused; ``noise`` is of the values."""
        ...


def _capped(step: Array, max_step: Array) -> Array:
    """A step shortened so that no row moves farther than ``max_step``."""
    longest = jnp.sqrt(jnp.max(jnp.sum(step**2, axis=-1)))
    return step * jnp.minimum(1.0, max_step / jnp.where(longest > 0, longest, 1.0))


def _finite(point: Point) -> Bool[Array, ""]:
    return jnp.isfinite(point.value) & jnp.all(jnp.isfinite(point.gradient))


def _choose(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


# --- FIRE --------------------------------------------------------------------------------------


class FireState(NamedTuple):
    """Velocity, time step, mixing, and steps downhill since the last turn."""

    velocity: Float[Array, "rows 3"]
    timestep: Float[Array, ""]
    mixing: Float[Array, ""]
    downhill: Int[Array, ""]


@dataclass(frozen=True)
class Fire:
    r"""Fast inertial relaxation, version 2.0, with unit masses.

    Attributes:
        timestep: First time step; the unit is sqrt(Å²/eV).
        max_timestep: Longest time step.
        min_timestep: Shortest time step.
        delay: Steps downhill before the time step grows.
        grow: Factor of its growth.
        shrink: Factor after a turn uphill.
        mixing: First mixing of velocity and force.
        mixing_decay: Factor of its decay.

    Reference:
        Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201;
        Guénolé et al., Comput. Mater. Sci. 175, 109584 (2020),
        doi:10.1016/j.commatsci.2020.109584.
    """

    timestep: float = 0.1
    max_timestep: float = 1.0
    min_timestep: float = 2e-3
    delay: int = 20
    grow: float = 1.1
    shrink: float = 0.5
    mixing: float = 0.25
    mixing_decay: float = 0.99

    def init(self, point: Point, max_step: Array) -> FireState:
        """At rest."""
        like = point.x.dtype
        return FireState(
            jnp.zeros_like(point.x),
            jnp.asarray(self.timestep, like),
            jnp.asarray(self.mixing, like),
            jnp.zeros((), jnp.int32),
        )

    def propose(self, state: FireState, point: Point, max_step: Array) -> Float[Array, "rows 3"]:
        """Where one step of semi-implicit Euler leads."""
        return self._move(state, point, max_step)[1]

    def digest(
        self, state: FireState, point: Point, trial: Point, noise: Array, max_step: Array
    ) -> tuple[FireState, Point]:
        """Go on from the trial; where it is not finite, rest and creep."""
        moved, _ = self._move(state, point, max_step)
        rest = self.init(point, max_step)._replace(
            timestep=jnp.maximum(0.1 * state.timestep, self.min_timestep)
        )
        return _choose(_finite(trial), (moved, trial), (rest, point))

    def _move(self, state: FireState, point: Point, max_step: Array) -> tuple[FireState, Array]:
        force = -point.gradient
        downhill = jnp.sum(force * state.velocity) > 0
        count = jnp.where(downhill, state.downhill + 1, 0)
        faster = downhill & (count > self.delay)
        timestep = jnp.where(
            downhill,
            jnp.where(faster, self.grow * state.timestep, state.timestep),
            self.shrink * state.timestep,
        )
        timestep = jnp.clip(timestep, self.min_timestep, self.max_timestep)
        mixing = jnp.where(faster, self.mixing_decay * state.mixing, state.mixing)
        mixing = jnp.where(downhill, mixing, self.mixing)
        # Uphill: half a step back corrects the overshoot, then a start from rest.
        back = jnp.where(downhill, 0.0, -0.5 * state.timestep) * state.velocity
        velocity = jnp.where(downhill, state.velocity, 0.0) + timestep * force
        size = jnp.sqrt(jnp.sum(force**2))
        speed = jnp.sqrt(jnp.sum(velocity**2))
        along = force * (speed / jnp.where(size > 0, size, 1.0))
        velocity = (1.0 - mixing) * velocity + mixing * along
        x = point.x + _capped(back + timestep * velocity, max_step)
        return FireState(velocity, timestep, mixing, count.astype(jnp.int32)), x


# --- L-BFGS ------------------------------------------------------------------------------------


class LbfgsState(NamedTuple):
    """Pairs of steps and gradient changes (newest last), and the search under way."""

    steps: Float[Array, "memory rows 3"]
    changes: Float[Array, "memory rows 3"]
    weights: Float[Array, " memory"]
    """1 / (step . change); 0 where there is no pair yet."""
    softness: Float[Array, ""]
    direction: Float[Array, "rows 3"]
    fraction: Float[Array, ""]
    refusals: Int[Array, ""]


@dataclass(frozen=True)
class Lbfgs:
    """Limited-memory BFGS with a backtracking search that rounding of the values cannot fool.

    A trial is accepted if its value falls enough (Armijo), or if it lies within the noise of the
    values and the slope along the direction has not turned up as steeply as it fell. The second
    rule, by gradients alone, is what still works where energies no longer resolve the descent.

    Attributes:
        memory: Number of pairs kept.
        softness: First inverse stiffness in Å²/eV.
        refusals: Refused trials in a row after which the memory is dropped.

    Reference:
        Nocedal, Math. Comput. 35, 773 (1980), doi:10.1090/S0025-5718-1980-0572855-7; Hager & Zhang,
        SIAM J. Optim. 16, 170 (2005), doi:10.1137/030601880 (approximate Wolfe condition).
    """

    memory: int = 30
    softness: float = 1.0 / 70.0
    refusals: int = 8

    def init(self, point: Point, max_step: Array) -> LbfgsState:
        """Steepest descent first."""
        pairs = jnp.zeros((self.memory, *point.x.shape), point.x.dtype)
        softness = jnp.asarray(self.softness, point.x.dtype)
        return LbfgsState(
            pairs,
            pairs,
            jnp.zeros(self.memory, point.x.dtype),
            softness,
            _capped(-softness * point.gradient, max_step),
            jnp.ones((), point.x.dtype),
            jnp.zeros((), jnp.int32),
        )

    def propose(self, state: LbfgsState, point: Point, max_step: Array) -> Float[Array, "rows 3"]:
        """The current fraction along the current direction."""
        return point.x + state.fraction * state.direction

    def digest(
        self, state: LbfgsState, point: Point, trial: Point, noise: Array, max_step: Array
    ) -> tuple[LbfgsState, Point]:
        """Accept and turn, or shorten the step."""
        slope = jnp.sum(state.direction * point.gradient)
        ahead = jnp.sum(state.direction * trial.gradient)
        enough = trial.value <= point.value + 1e-4 * state.fraction * slope
        level = (trial.value <= point.value + noise) & (ahead <= 0.8 * jnp.abs(slope))
        accepted = _finite(trial) & (enough | level)
        return _choose(
            accepted,
            (self._turn(state, point, trial, max_step), trial),
            (self._shorten(state, point, trial, slope, ahead, max_step), point),
        )

    def _turn(self, state: LbfgsState, point: Point, trial: Point, max_step: Array) -> LbfgsState:
        step, change = trial.x - point.x, trial.gradient - point.gradient
        product, square = jnp.sum(step * change), jnp.sum(change**2)
        # Along a direction of negative curvature there is no pair to learn: go farther next time.
        convex = product > 1e-8 * jnp.sqrt(jnp.sum(step**2) * square)
        safe = jnp.where(convex, product, 1.0)
        learnt = state._replace(
            steps=jnp.roll(state.steps, -1, axis=0).at[-1].set(step),
            changes=jnp.roll(state.changes, -1, axis=0).at[-1].set(change),
            weights=jnp.roll(state.weights, -1).at[-1].set(1.0 / safe),
            softness=safe / jnp.where(square > 0, square, 1.0),
        )
        # A null step, which a loop takes to see its first point, teaches nothing.
        farther = jnp.minimum(jnp.where(jnp.any(step != 0), 2.0, 1.0) * state.softness, 10.0)
        state = _choose(convex, learnt, state._replace(softness=farther))
        direction = _two_loops(state, trial.gradient)
        descends = jnp.sum(direction * trial.gradient) < 0
        fresh = self.init(trial, max_step)
        state = _choose(descends, state, fresh)
        direction = jnp.where(descends, direction, fresh.direction)
        return state._replace(
            direction=_capped(direction, max_step),
            fraction=jnp.ones_like(state.fraction),
            refusals=jnp.zeros_like(state.refusals),
        )

    def _shorten(
        self,
        state: LbfgsState,
        point: Point,
        trial: Point,
        slope: Array,
        ahead: Array,
        max_step: Array,
    ) -> LbfgsState:
        down = jnp.abs(slope)
        rises = jnp.isfinite(ahead) & (ahead > 0)
        secant = down / (down + jnp.where(rises, ahead, 1.0))
        factor = jnp.where(rises, jnp.clip(secant, 0.1, 0.6), 0.2)
        shorter = state._replace(fraction=state.fraction * factor, refusals=state.refusals + 1)
        fresh = self.init(point, max_step)
        return _choose(shorter.refusals >= self.refusals, fresh, shorter)


def _two_loops(state: LbfgsState, gradient: Array) -> Array:
    """The quasi-Newton direction; pairs of weight 0 do nothing."""

    def newest_first(rest, pair):
        step, change, weight = pair
        share = weight * jnp.sum(step * rest)
        return rest - share * change, share

    pairs = (state.steps, state.changes, state.weights)
    rest, shares = jax.lax.scan(newest_first, gradient, pairs, reverse=True)

    def oldest_first(direction, pair):
        step, change, weight, share = pair
        return direction + (share - weight * jnp.sum(change * direction)) * step, None

    direction, _ = jax.lax.scan(oldest_first, state.softness * rest, (*pairs, shares))
    return -direction

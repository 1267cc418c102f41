"""Functions from values, derivatives and differential equations: the published demonstrations.

    python experiments/pde.py

Kernel regression with linear operators as observations, beside the numbers of Schmitz, Müller &
Chmiela, J. Phys. Chem. Lett. 13, 10183 (2022), doi:10.1021/acs.jpclett.2c02632. Rosenbrock's
function at two points has no random numbers and must give theirs. Of the others, with random
points, the median of ten draws is given, and the extremes. The record goes to ``pde.json``.
"""

import json
import os
import platform
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jaxff.kernels import rbf
from jaxff.kernels.observations import directional, gradient, hessian, identity, laplacian
from jaxff.regression import fit, radial

DRAWS = 10
KERNEL = radial(rbf, 1.0)


def labels(operators, function, points):
    return [(op, points, jax.vmap(op(function))(jnp.asarray(points))) for op in operators]


def mean_square(fitted, operator, points, values):
    return float(np.mean((np.asarray(fitted.predict(operator, points)) - values) ** 2))


def rosenbrock():
    def function(p):
        return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2

    points = np.array([[0.2, 0.8], [0.8, 0.2]])
    axis = np.linspace(0.0, 1.0, 100)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    expected = jax.vmap(function)(jnp.asarray(grid))
    result = {}
    for count, name in enumerate(("values", "gradients_too", "hessians_too"), 1):
        fitted = fit(labels((identity, gradient, hessian)[:count], function, points), KERNEL)
        result[name] = float(jnp.mean(jnp.abs(fitted.predict(identity, grid) - expected)))
    return {"mae": result, "published": [25.315658, 9.429568, 2.685770]}


def himmelblau(rng):
    def function(p):
        return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2

    given = labels((identity, gradient, hessian), function, rng.uniform(-5, 5, size=(50, 2)))
    fitted = fit(given, KERNEL)
    return [mean_square(fitted, *one) for one in given]


def outward(point):
    return point / jnp.linalg.norm(point)


NORMAL = directional(outward)


def annulus(rng, counts, gap, *, even):
    """Observations of the Laplace problem: interior, inner rim, outer rim."""
    inside, inner, outer = counts
    low, high = 0.5 + 0.5 * gap, 1.0 - 0.5 * gap
    radius = np.sqrt(rng.uniform(low**2, high**2, size=inside))

    def circle(radius, count, even=False):
        part = np.arange(count) / count if even else rng.uniform(size=count)
        angle = 2 * np.pi * part
        return angle, np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    angle, rim = circle(1.0, outer, even)
    return [
        (laplacian, circle(radius, inside)[1], np.zeros(inside)),
        (identity, circle(0.5, inner, even)[1], np.zeros(inner)),
        (NORMAL, rim, np.cos(5 * angle)),
    ]


def laplace(rng, *, even):
    """Mean square errors; points on the rims at random, or at even distances."""
    given = annulus(rng, (50, 25, 25), 0.1, even=even)
    fitted = fit(given, KERNEL)
    fresh = annulus(rng, (2000, 100, 100), 0.0, even=False)
    return [mean_square(fitted, *one) for one in (*given, *fresh)]


def residual(function):
    """u_xx - u_tt of points (x, t)."""

    def at(point):
        second = hessian(function)(point)
        return second[0, 0] - second[1, 1]

    return at


TIME = directional([0.0, 1.0])


def wave(rng, *, constrained=True):
    """Mean absolute residual at the interior points, and error of the solution on a grid."""
    even, zero, one = np.linspace(0.0, 1.0, 10), np.zeros(10), np.ones(10)
    inside = rng.uniform(size=(20, 2))
    start = np.stack([even, zero], axis=1)
    given = [
        (residual, inside, np.zeros(20)),
        (identity, np.stack([zero, even], axis=1), zero),
        (identity, np.stack([one, even], axis=1), zero),
        (identity, start, even * (1 - even)),
        (TIME, start, zero),
    ]
    fitted = fit(given[0 if constrained else 1 :], radial(rbf, 0.2))
    axis = np.linspace(0.0, 1.0, 30)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    odd = np.arange(1, 200, 2)[:, None] * np.pi
    exact = np.sum(8 / odd**3 * np.sin(odd * grid[:, 0]) * np.cos(odd * grid[:, 1]), axis=0)
    found = np.asarray(fitted.predict(identity, grid))
    left = np.asarray(fitted.predict(residual, inside))
    return [float(np.mean(np.abs(left))), float(np.mean(np.abs(found - exact)))]


def draws(function, names, published):
    """Median and extremes over random draws."""
    found = np.array([function(np.random.default_rng(seed)) for seed in range(DRAWS)])
    table = {
        name: {"median": float(np.median(c)), "least": float(c.min()), "most": float(c.max())}
        for name, c in zip(names, found.T, strict=True)
    }
    return {**table, "published": published}


LAPLACE = (
    [f"{kind} {name}" for kind in ("train", "test") for name in ("interior", "inner", "outer")],
    [2.4e-8, 1.5e-5, 1.7e-8, 6.1e-3, 2.2e-5, 1.1e-4],
)


def main():
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jax", "numpy", "scipy")},
        "rosenbrock": rosenbrock(),
        "himmelblau_mse": draws(
            himmelblau, ("values", "gradients", "hessians"), [7.7e-8, 1.6e-8, 1.8e-10]
        ),
        "laplace_mse": draws(
            partial(laplace, even=False), *LAPLACE
        ),
        "laplace_mse_even_rims": draws(partial(laplace, even=True), *LAPLACE),
        "wave_mae": draws(wave, ("residual", "solution"), [4.3e-7]),
        "wave_mae_unconstrained": draws(
            partial(wave, constrained=False), ("residual", "solution"), [1.246]
        ),
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()

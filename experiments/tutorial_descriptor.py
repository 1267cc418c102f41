"""A descriptor of ten lines, and all that follows from it without another line of mathematics.

    python experiments/tutorial_descriptor.py

Takes three minutes at most on one core and reads nothing but the ethanol that ships with jaxff. The
teacher, whose forces and Hessians are the labels of the second chapter, is a fit to that data; in
practice it would be a quantum-chemistry program.
"""

import time
import warnings

import jax

jax.config.update("jax_enable_x64", True)  # kernels need float64

import jax.numpy as jnp
import numpy as np

from jaxff import System, bind, data, dynamics, gdml, neighbor_list, observe, pack, physics
from jaxff.descriptors import check, inverse_distances
from jaxff.kernels import Kernel, matern52, matern92
from jaxff.linalg.solvers import cholesky
from jaxff.system import strain
from jaxff.vibrations import modes_of

BEST = data.embedded.minimum()
ETHANOL = System(BEST.positions, BEST.numbers)
KEY = jax.random.key(0)
EXACT = {"solver": cholesky(), "regularization": 1e-10}
labels_of = jax.jit(lambda fn, systems, names: observe(fn, names)(systems), static_argnums=2)


# 1. The descriptor. Any function of a system that JAX can differentiate will do; its keywords are
#    hyperparameters. This one holds the screened Coulomb repulsion of the nuclei, pair by pair.
def screened_repulsion(system, neighbors=None, *, screening):
    first, second = np.triu_indices(system.atom_count, 1)
    vectors = system.positions[first] - system.positions[second]
    distances = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
    charges = system.numbers[first] * system.numbers[second]
    return jnp.sqrt(charges) * jnp.exp(-distances / screening) / distances


# The same in a crystal: a pair with all its images, an atom with its own too, at three ranges.
def periodic_repulsion(system, neighbors=None):
    first, second = np.triu_indices(system.atom_count)
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    vectors = system.positions[first] - system.positions[second]
    squares = jnp.sum((vectors[:, None] + images @ system.cell) ** 2, axis=-1)
    distances = jnp.sqrt(jnp.where(squares > 0.0, squares, 1e4))  # no atom repels itself
    return jnp.concatenate([jnp.sum(jnp.exp((3.7 - distances) / r), -1) for r in (0.25, 0.4, 0.7)])


def say(title, *lines):
    print(f"\n[{time.process_time() - START:3.0f} s] {title}", *lines, sep="\n    ", flush=True)


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def slope(function, moved, step=1e-3):
    """Derivative of an energy along a motion, by four-point central differences."""
    near, far = (float(function(moved(s)) - function(moved(-s))) for s in (step, 2 * step))
    return (8 * near - far) / (12 * step)


def spread(found, expected):
    """Deviations relative to the spread of what was expected."""
    return f"{float(np.std(found - expected) / np.std(expected)):.1%}"


def molecule():
    # 2. Labels from a teacher; a fit to forces and Hessians of six geometries.
    ethanol = data.npz.read(data.embedded.ethanol_path())
    warm = ethanol[np.asarray(ethanol.per_frame["temperature"]) == 500.0][:200]
    school = gdml.potential(Kernel(inverse_distances, matern52))
    params = school.init(KEY, warm.systems, hyper={"lengthscale": 10.0})
    teacher = bind(school, gdml.fit(school, params, warm.labels("forces"), **EXACT)[0])
    minimum = dynamics.relax(teacher, ETHANOL, max_force=1e-5).system
    moves = 0.03 * np.random.default_rng(0).normal(size=(36, 9, 3))
    systems = System(minimum.positions + moves, np.tile(minimum.numbers, (36, 1)))
    few, test = pick(systems, slice(6)), pick(systems, slice(6, None))

    check(screened_repulsion, minimum, {"screening": 1.0})
    potential = gdml.potential(Kernel(screened_repulsion, matern92))
    start = potential.init(KEY, few, hyper={"lengthscale": 10.0, "screening": 1.0})
    given = {n: np.asarray(v) for n, v in labels_of(teacher, few, ("forces", "hessian")).items()}
    expected = labels_of(teacher, test, ("forces",))["forces"]
    for names in (("forces",), ("forces", "hessian")):
        params, info = gdml.fit(potential, start, {n: given[n] for n in names}, **EXACT)
        model = bind(potential, params)
        off = spread(labels_of(model, test, ("forces",))["forces"], expected)
        say(f"Ethanol, {' and '.join(names)} of six geometries: forces of others off by {off}")

    # 3. Forces are the exact derivatives of the energy.
    one = pick(test, 0)
    motion = np.random.default_rng(1).normal(size=(9, 3)) / np.sqrt(3.0)  # 1 Å for each atom
    force = jnp.sum(labels_of(model, one, ("forces",))["forces"] * motion)
    numeric = -slope(model, lambda s: one.replace(positions=one.positions + s * motion))
    say("Force along a random direction", f"{force:.6f} eV/Å, by differences {numeric:.6f}")

    # 4. It knows what it does not know.
    steps = np.array([0.0, 0.02, 0.05, 0.1, 0.2])
    away = System(few.positions[0] + steps[:, None, None] * motion, np.tile(one.numbers, (5, 1)))
    variance = gdml.posterior(potential, params, info).variance(away, ("forces",))["forces"]
    deviation = np.sqrt(np.asarray(variance).mean((1, 2)))
    say("Standard deviation of forces, eV/Å, at 0 to 0.2 Å from a reference", deviation.round(4))

    # 5. Minimum and normal modes, beside those of the teacher.
    relaxed = dynamics.relax(model, minimum, max_force=1e-5).system
    off = np.abs(modes_of(model, relaxed).frequencies - modes_of(teacher, minimum).frequencies)
    say(f"Harmonic frequencies off by {off.mean():.1f} 1/cm on average, {off.max():.1f} at most")

    # 6. Two picoseconds at constant energy.
    nve = dynamics.nve(timestep=0.5)
    run = dynamics.run(model, relaxed, ensemble=nve, steps=4000, temperature=100.0, key=KEY)
    energy = np.asarray(run.conserved_energy) * 1e3 / 9  # meV/atom
    drift = np.polyfit(np.linspace(0.0, 2.0, len(energy)), energy, 1)[0]
    say("2 ps at constant energy", f"drift {drift:.1e} meV/atom/ps, spread {energy.std():.1e}")


def crystal():
    # 7. Argon, four atoms in a cubic cell: forces and stress of a Lennard-Jones potential.
    argon = physics.lennard_jones("Ar", cutoff=8.5, truncation="switched")
    rng = np.random.default_rng(0)
    perfect = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = 5.26 * (np.eye(3) + 0.02 * rng.normal(size=(40, 3, 3)))
    places = perfect @ cells + 0.1 * rng.normal(size=(40, 4, 3))
    systems = System(places, np.full((40, 4), 18), cell=cells)
    packed = pack([pick(systems, i) for i in range(40)])
    lists = neighbor_list(argon.cutoffs).allocate(packed)
    truth = observe(bind(argon, argon.init(epsilon=0.01034, sigma=3.405)), ("forces", "stress"))
    labels = jax.jit(truth)(packed, lists)
    labels = {n: np.asarray(v).reshape(40, -1, 3) for n, v in labels.items()}

    check(periodic_repulsion, pick(systems, 0))
    train, test = slice(0, 30), slice(30, 40)
    potential = gdml.potential(Kernel(periodic_repulsion, matern92))
    params = potential.init(KEY, pick(systems, train), hyper={"lengthscale": 500.0})
    params, _ = gdml.fit(potential, params, {n: v[train] for n, v in labels.items()}, **EXACT)
    model, one = bind(potential, params), pick(systems, 30)
    found = labels_of(model, pick(systems, test), ("forces", "stress"))
    off = [spread(found[n], labels[n][test]) for n in ("forces", "stress")]
    shear = np.array([[0.3, 0.7, 0.0], [0.7, 0.0, 0.2], [0.0, 0.2, -0.5]])
    numeric = slope(model, lambda s: strain(one, s * shear)) / abs(np.linalg.det(cells[30]))
    exact = jnp.sum(found["stress"][0] * shear)
    say(f"A crystal: forces of other geometries off by {off[0]}, stress by {off[1]}")
    say("Stress along a strain", f"{exact:.9f} eV/Å³, by differences {numeric:.9f}")


def mistakes():
    # 8. What happens with a descriptor that is none.
    wrong = {
        "rounds": lambda one, _: jnp.round(screened_repulsion(one, screening=1.0), 1),
        "branches": lambda one, _: one.positions[one.positions[:, 0] > 0.0].ravel(),
        "sums up": lambda one, _: jnp.sum(screened_repulsion(one, screening=1.0)),
        "is Cartesian": lambda one, _: one.positions.ravel(),
    }
    warnings.simplefilter("error")
    for name, descriptor in wrong.items():
        try:
            check(descriptor, ETHANOL)
        except (TypeError, ValueError, UserWarning) as error:
            say(f"A descriptor that {name}: {type(error).__name__}", error)


if __name__ == "__main__":
    START = time.process_time()
    for chapter in (molecule, crystal, mistakes):
        chapter()

"""The physics that every potential must obey; a new potential is one more line in ``CASES``."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import kernel_models
import numpy as np
import pytest
from models import (
    capacitor,
    counting,
    crystal,
    difference,
    lennard_jones,
    molecule,
    morse,
    polarizable,
    rotations,
    run,
    springs,
)

from jaxff import descriptors, networks, physics
from jaxff.coarse import priors
from jaxff.derivatives import energy_and_forces, forces, stress
from jaxff.neighbors import neighbor_list
from jaxff.potential import Potential, add, bind, scale_shift
from jaxff.system import System, pack, stack, strain

KEY = jax.random.key(0)
LENNARD_JONES = {"epsilon": jnp.asarray([0.1, 0.2, 0.3]), "sigma": jnp.asarray([1.0, 1.3, 1.5])}
MORSE = {"depth": 0.3, "width": 0.7, "length": 0.8}
FIELD = [0.3, -0.2, 0.5]
BONDS = np.array([[0, 1], [1, 2], [0, 2]])


@dataclass(frozen=True)
class Case:
    """A potential with what it claims.

    Attributes:
        potential: The potential.
        systems: Single systems that it accepts; at least two. Equal sizes are also stacked.
        params: Parameters; by default ``init`` for the first system.
        stack: Whether stacks are accepted; otherwise a ``ValueError`` is expected.
        pack: Whether packs of ``systems`` are accepted; otherwise a ``ValueError`` is expected.
        padding: Whether atoms of number 0 change nothing.
        permutations: ``"any"`` if the order of the atoms means nothing, or the permutations (rows
            of indices) that change nothing.
        coincident: Whether energy and forces are finite where two atoms coincide; with False it
            must raise, with ``"nan"`` nothing of the result may look like a number, with
            ``"infinite"`` not the energy.
        tolerance: Of forces against finite differences, eV/Å.
        invariance: Of energies (eV) and forces (eV/Å) under symmetry operations.
        stretch: Factor of the cell in which an atom is put alone.
    """

    potential: Potential
    systems: Sequence[System]
    params: Any = None
    stack: bool = True
    pack: bool = True
    padding: bool = True
    permutations: Any = "any"
    coincident: bool | str = True
    tolerance: float = 1e-8
    invariance: float = 1e-10
    stretch: float = 50.0

    def bound(self, potential: Potential | None = None):
        potential = potential or self.potential
        if self.params is not None:
            return bind(potential, self.params)
        return bind(potential, potential.init(KEY, self.systems[0], self.neighbors()))

    def neighbors(self, system: System | None = None):
        """A list with room for small displacements, or None where none is needed."""
        if not self.potential.cutoffs:
            return None
        lists = neighbor_list(self.potential.cutoffs, skin=0.05)
        system = self.systems[0] if system is None else system
        stacked = system.batch_shape and not system.is_packed
        return lists.allocate_stack(system) if stacked else lists.allocate(system)

    def evaluate(self, system: System):
        return run(energy_and_forces(self.bound()), system, self.neighbors(system))


def molecules(*sizes: int, **fields) -> list[System]:
    return [molecule(seed, size, **fields) for seed, size in enumerate(sizes)]


def kernel(name: str, baseline: Potential | None = None, known: Any = None, **claims) -> Case:
    """A kernel potential with random coefficients, alone or on top of a baseline."""
    made = {**kernel_models.CASES, **kernel_models.WITH_LISTS}[name]()
    potential, params = kernel_models.random_params(made, energies=True)
    if baseline is not None:
        potential, params = add(baseline, potential), (known, params)
    systems = [jax.tree.map(lambda leaf, i=i: leaf[i], made.references) for i in range(2)]
    identity = np.arange(systems[0].atom_count)[None]
    permutations = made.kernel.permutations
    return Case(
        potential,
        systems,
        params=params,
        pack=False,
        padding=False,
        permutations=identity if permutations is None else permutations,
        **{"coincident": "nan", "tolerance": 1e-7, "invariance": 1e-9, **claims},
    )


def network(potential: Potential, systems: list[System], **claims) -> Case:
    """A network with random parameters; compiled, its start is faster than op by op."""
    case = Case(potential, systems, **claims)
    params = jax.jit(potential.init)(KEY, systems[0], case.neighbors())
    return dataclasses.replace(case, params=params)


D3 = {k: jnp.asarray(v) for k, v in (("s6", 1.0), ("s8", 1.2177), ("a1", 0.4145), ("a2", 4.8593))}
SO3LR = {
    "cutoff": 3.0,
    "features": 4,
    "layers": 1,
    "heads": 2,
    "degrees": (1, 2),
    "radial_functions": 4,
    "dtype": "float64",
}


def moved(case: Case) -> Case:
    """The case with other parameters, for networks that start from zero."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), case.params)
    return dataclasses.replace(case, params=params)


MESSAGES = {"features": 3, "radial_functions": 4, "dtype": "float64"}
ELEMENTS = ("H", "C", "O")


CASES: dict[str, Callable[[], Case]] = {
    "lennard_jones": lambda: Case(lennard_jones(), molecules(4, 3), stack=False),
    "lennard_jones crystal": lambda: Case(lennard_jones(), [crystal(), crystal(1, 2)], stack=False),
    "switched lennard-jones of two elements": lambda: Case(
        physics.lennard_jones(["H", 6, 8], 3.5, truncation="switched", onset=2.5),
        molecules(4, 3),
        params=LENNARD_JONES,
        stack=False,
        coincident="nan",
        tolerance=1e-7,
        invariance=1e-9,
    ),
    "force-shifted lennard-jones crystal": lambda: Case(
        physics.lennard_jones(["H", 6, 8], 3.5, truncation="force_shifted"),
        [crystal(), crystal(1, 2)],
        params=LENNARD_JONES,
        stack=False,
        coincident="nan",
    ),
    "physics morse": lambda: Case(
        physics.morse(["H", 6, 8], 4.0, truncation="switched"),
        molecules(4, 3),
        params={k: jnp.asarray(v) * (1 + np.eye(3)) for k, v in MORSE.items()},
        stack=False,
    ),
    "zbl": lambda: Case(
        physics.zbl(2.5),
        [crystal(), crystal(1, 2)],
        stack=False,
        coincident="nan",
        tolerance=1e-6,
        invariance=1e-9,
    ),
    "trainable zbl": lambda: Case(
        physics.trainable_zbl(2.5), molecules(4, 3), stack=False, coincident="nan", tolerance=1e-7
    ),
    "d3 crystal": lambda: Case(
        physics.d3(["H", 6, 8], 4.0), [crystal(), crystal(1, 2)], params=D3, stack=False
    ),
    "charges and dispersion": lambda: Case(
        add(
            physics.d4(4.0),
            physics.fixed_charges([1, "C", 8]),
            add(physics.electrostatics(reach=2.0, cutoff=4.0)),
        ),
        [crystal(), crystal(1, 2)],
        params=(D3, {"charges": jnp.asarray([0.2, 0.3, -0.4])}, ({},)),
        stack=False,
    ),
    "morse": lambda: Case(morse(), molecules(4, 4, 3)),
    "springs": lambda: Case(
        springs(BONDS), [crystal(), crystal(1)], pack=False, permutations=[[0, 1, 2]]
    ),
    "polarizable": lambda: Case(polarizable(), molecules(3, 3, 2, electric_field=FIELD)),
    "sum": lambda: Case(
        scale_shift(add(morse(), capacitor()), 0.5, np.arange(9.0)),
        molecules(3, 3, charge=1.0),
    ),
    "schnet": lambda: network(networks.schnet(3.5, interactions=1, **MESSAGES), molecules(4, 4, 3)),
    "painn crystal": lambda: network(
        networks.painn(3.5, interactions=2, **MESSAGES), [crystal(), crystal(1)]
    ),
    "so3krates crystal": lambda: network(
        networks.so3krates(
            3.5,
            layers=2,
            heads=2,
            degrees=(1, 2),
            layer_norm="post",
            residual_mlps=("added", "projected"),
            **(MESSAGES | {"features": 4}),
        ),
        [crystal(), crystal(1)],
    ),
    "so3krates with nonlocal attention": lambda: network(
        networks.so3krates(
            3.5,
            layers=1,
            heads=2,
            degrees=(1, 2),
            nonlocal_attention=True,
            initial_norm=2.0,
            **(MESSAGES | {"features": 4}),
        ),
        molecules(4, 4, 3),
    ),
    "so3lr": lambda: network(
        networks.so3lr(None, **SO3LR),
        molecules(4, 4, 3, charge=1.0, spin=1.0),
        coincident="infinite",
    ),
    "so3lr crystal with Ewald sums": lambda: network(
        networks.so3lr(4.0, ewald=physics.ewald_plan(crystal().cell, width=4.0), **SO3LR),
        [crystal().replace(charge=0.0, spin=0.0), crystal(1).replace(charge=0.0, spin=0.0)],
        pack=False,
        coincident="infinite",
        stretch=1.2,
    ),
    "spookynet crystal": lambda: moved(
        network(
            networks.spookynet(
                2.5,
                modules=1,
                nonlocal_attention="features",
                random_features=8,
                long_range_cutoff=3.5,
                **MESSAGES,
            ),
            [
                system.replace(charge=jnp.asarray(1.0), spin=jnp.asarray(2.0))
                for system in (crystal(), crystal(1))
            ],
            coincident="infinite",
            tolerance=1e-6,
            invariance=1e-9,
        )
    ),
    "geometric attention": lambda: network(
        networks.geomatt(
            ELEMENTS,
            orders=(2, 3),
            features=3,
            filters=2,
            layers=1,
            gamma=2.0,
            spacing=0.5,
            dtype="float64",
        ),
        molecules(4, 4),
        pack=False,
    ),
    "element networks crystal": lambda: network(
        networks.descriptor_mlp(
            descriptors.acsf(ELEMENTS, 2.5, g2=[(1.0, 0.0)], g5=[(0.1, 2, 1.0)], max_neighbors=20),
            hidden=(3,),
            dtype="float64",
        ),
        [crystal(), crystal(1)],
        tolerance=1e-5,  # of the differences: it falls with the fourth power of their step
    ),
    "sgdml": lambda: kernel("matern52"),
    "sgdml periodic": lambda: kernel("periodic"),
    "gdml": lambda: kernel("no_symmetry"),
    "rbf kernel": lambda: kernel("rbf"),
    "kernel of a custom descriptor": lambda: kernel("generic"),
    "kernel of a descriptor with lists": lambda: kernel("listed", coincident=True, tolerance=1e-5),
    "priors of beads": lambda: Case(
        add(
            priors.harmonic_bonds([[0, 1], [1, 2]]),
            priors.harmonic_angles([[0, 1, 2]]),
            priors.repulsion([[0, 1], [0, 2]]),
        ),
        molecules(3, 3),
        params=tuple(
            {name: jnp.asarray(values) for name, values in each.items()}
            for each in (
                {"length": [1.1, 1.3], "stiffness": [3.0, 2.0]},
                {"angle": [1.9], "stiffness": [0.7]},
                {"diameter": [1.0, 1.4], "strength": [0.02, 0.03]},
            )
        ),
        pack=False,
        padding=False,
        permutations=[[0, 1, 2]],
        coincident="infinite",
    ),
    "baseline and kernel": lambda: kernel(
        "matern52",
        springs([[0, 1], [0, 2]]),
        {"lengths": jnp.full(2, 1.1), "constants": jnp.full(2, 3.0)},
    ),
}


@functools.cache
def build(name: str) -> Case:
    return CASES[name]()


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return build(request.param)


def close(value, expected, tolerance):
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


def turned(system: System, matrix: np.ndarray) -> System:
    """The system with everything that points somewhere rotated or reflected."""
    fields = {"positions": system.positions @ matrix.T}
    for name in ("cell", "electric_field"):
        if getattr(system, name) is not None:
            fields[name] = getattr(system, name) @ matrix.T
    return system.replace(**fields)


def padded(system: System) -> System:
    """Two atoms more, which do not exist; one lies on a real atom."""
    positions = jnp.concatenate([system.positions, system.positions[:1], jnp.full((1, 3), 0.7)])
    return system.replace(positions=positions, numbers=jnp.pad(system.numbers, (0, 2)))


def test_forces_are_the_derivative_of_the_energy(case):
    system = case.systems[0]
    neighbors, energy_fn = case.neighbors(), case.bound()
    expected = -difference(
        lambda r: energy_fn(system.replace(positions=r), neighbors), system.positions
    )
    assert np.abs(expected).max() > 1e-3
    close(case.evaluate(system)[1], expected, case.tolerance)


def test_no_net_force(case):
    for system in case.systems:
        close(case.evaluate(system)[1].sum(axis=0), 0.0, case.invariance)


def test_translation(case):
    system = case.systems[0]
    energy, force = case.evaluate(system)
    moved = system.replace(positions=system.positions + jnp.asarray([3.0, -7.0, 11.0]))
    for value, expected in zip(case.evaluate(moved), (energy, force), strict=True):
        close(value, expected, case.invariance)


def test_rotation_and_reflection(case):
    system = case.systems[0]
    energy, force = case.evaluate(system)
    for matrix in rotations(4):
        new_energy, new_force = case.evaluate(turned(system, matrix))
        close(new_energy, energy, case.invariance)
        close(new_force, force @ matrix.T, case.invariance)


def test_permutation_of_atoms(case):
    system = case.systems[0]
    energy, force = case.evaluate(system)
    if isinstance(case.permutations, str):
        orders = [np.random.default_rng(s).permutation(system.atom_count) for s in range(3)]
    else:
        orders = [np.asarray(order) for order in case.permutations]
    for order in orders:
        moved = system.replace(positions=system.positions[order], numbers=system.numbers[order])
        new_energy, new_force = case.evaluate(moved)
        close(new_energy, energy, case.invariance)
        close(new_force, force[order], case.invariance)


def test_padding_changes_nothing(case):
    if not case.padding:
        pytest.skip("this potential takes no padding")
    system = case.systems[0]
    energy, force = case.evaluate(system)
    new_energy, new_force = case.evaluate(padded(system))
    close(new_energy, energy, case.invariance)
    close(new_force[:-2], force, case.invariance)
    close(new_force[-2:], 0.0, 0.0)


def test_stack_is_the_loop(case):
    systems = [s for s in case.systems if s.atom_count == case.systems[0].atom_count]
    if not case.stack:
        neighbors = case.neighbors()
        with pytest.raises(ValueError, match=r"stack|pack"):
            case.bound()(stack(systems), neighbors)
        return
    energy, force = case.evaluate(stack(systems))
    single = [case.evaluate(s) for s in systems]
    close(energy, jnp.stack([e for e, _ in single]), case.invariance)
    close(force, jnp.stack([f for _, f in single]), case.invariance)


def test_pack_is_the_loop(case):
    packed = pack(list(case.systems))
    if not case.pack:
        with pytest.raises(ValueError, match=r"stack|pack"):
            case.bound()(packed, case.neighbors(packed))
        return
    energy, force = case.evaluate(packed)
    single = [case.evaluate(s) for s in case.systems]
    close(energy, jnp.stack([e for e, _ in single]), case.invariance)
    close(force, jnp.concatenate([f for _, f in single]), case.invariance)


def test_stress_is_the_derivative_by_strain(case):
    system = case.systems[0]
    if system.cell is None:
        pytest.skip("not periodic")
    neighbors, energy_fn = case.neighbors(), case.bound()
    expected = difference(lambda e: energy_fn(strain(system, e), neighbors), np.zeros((3, 3)))
    volume = abs(np.linalg.det(system.cell))
    close(run(stress(energy_fn), system, neighbors) * volume, expected, case.tolerance)


def test_lattice_translations_of_single_atoms(case):
    system = case.systems[0]
    if system.cell is None:
        pytest.skip("not periodic")
    energy, force = case.evaluate(system)
    shifts = np.random.default_rng(0).integers(-2, 3, (system.atom_count, 3))
    shifts = shifts * np.asarray(system.pbc)
    new_energy, new_force = case.evaluate(
        system.replace(positions=system.positions + shifts @ system.cell)
    )
    close(new_energy, energy, case.invariance)
    close(new_force, force, case.invariance)


def test_one_compilation_for_all_parameters(case):
    potential, traces = counting(case.potential)
    energy_fn = case.bound(potential)
    evaluate = jax.jit(lambda function, system, neighbors: function(system, neighbors))

    def scaled(leaf):
        return leaf * 1.01 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    neighbors = case.neighbors()
    for function in (energy_fn, jax.tree.map(scaled, energy_fn)):
        evaluate(forces(function), case.systems[0], neighbors)
    assert len(traces) == 1
    assert evaluate._cache_size() == 1


def test_isolated_atom(case):
    system = case.systems[0]
    one = system.replace(positions=system.positions[:1], numbers=system.numbers[:1])
    if system.cell is not None:
        one = one.replace(cell=case.stretch * system.cell)
    try:
        energy, force = case.evaluate(one)
    except ValueError:
        return
    assert np.isfinite(energy).all()
    close(force, 0.0, case.invariance)


def test_coincident_atoms(case):
    system = case.systems[0]
    system = system.replace(positions=system.positions.at[1].set(system.positions[0]))
    if not case.coincident:
        with pytest.raises(ValueError, match="coincid"):
            case.evaluate(system)
        return
    energy, force = case.evaluate(system)
    if case.coincident == "nan":
        assert np.isnan(energy).all()
        assert np.isnan(force).all()
        return
    if case.coincident == "infinite":
        assert not np.isfinite(energy).any()
        return
    assert np.isfinite(energy).all()
    assert np.isfinite(force).all()


def test_save_and_load(case, tmp_path):
    if case.potential.spec is None:
        pytest.skip("this potential has no spec")
    io = pytest.importorskip("jaxff.io")
    energy_fn = case.bound()
    io.save(tmp_path / "model.safetensors", case.potential, energy_fn.params)
    loaded = dataclasses.replace(
        case,
        **dict(zip(("potential", "params"), io.load(tmp_path / "model.safetensors"), strict=True)),
    )
    for value, expected in zip(
        loaded.evaluate(case.systems[0]), case.evaluate(case.systems[0]), strict=True
    ):
        np.testing.assert_array_equal(value, expected)


def test_forces_lower_for_every_platform(case):
    platforms = ("cpu", "cuda", "tpu")
    evaluate = jax.jit(lambda function, system, neighbors: forces(function)(system, neighbors))
    exported = jax.export.export(evaluate, platforms=platforms)(
        case.bound(), case.systems[0], case.neighbors()
    )
    assert exported.platforms == platforms
    assert exported.out_avals[0].shape == case.systems[0].positions.shape

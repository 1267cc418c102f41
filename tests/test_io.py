import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import (
    CASES,
    SWAP,
    WITH_LISTS,
    Case,
    log_distances,
    morse_labels,
    powers,
    random_params,
    water,
)
from models import run, springs
from safetensors import safe_open
from safetensors.numpy import save_file

from jaxff import add, bind, descriptors, energy_and_forces, gdml, io, networks, scale_shift
from jaxff.kernels import AtomicSum, Kernel, matern52
from jaxff.linalg import solvers
from jaxff.neighbors import neighbor_list
from jaxff.potential import Potential, Spec
from jaxff.system import System


def described(leaf):
    """Type and shape: a scalar that comes back as a vector would still predict."""
    return str(leaf.dtype), leaf.shape


def same_predictions(first, second, systems):
    expected = run(energy_and_forces(bind(*first)), systems)
    found = run(energy_and_forces(bind(*second)), systems)
    assert np.array_equal(expected[0], found[0])
    assert np.array_equal(expected[1], found[1])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", ["matern52", "rbf", "no_symmetry", "periodic"])
def test_round_trip_of_a_kernel(name, path):
    case = CASES[name]()
    model = random_params(case, energies=True)
    io.save(path, *model)
    again = io.load(path)
    same_predictions(model, again, case.references)
    jax.tree.map(np.testing.assert_array_equal, model[1], again[1])
    assert jax.tree.structure(model[1]) == jax.tree.structure(again[1])
    assert jax.tree.map(described, model[1]) == jax.tree.map(described, again[1])


def test_a_loaded_kernel_can_be_fitted_again(path):
    case = CASES["matern52"]()
    io.save(path, *random_params(case))
    potential, params = io.load(path)
    forces = morse_labels(case.references)[1]
    params, info = gdml.fit(
        potential, params, {"forces": forces}, solver=solvers.cholesky(), regularization=1e-6
    )
    assert info.converged


def test_round_trip_of_combinations(path):
    first, second = (random_params(CASES[name]()) for name in ("matern52", "no_symmetry"))
    shift = np.linspace(-1, 1, 10)
    total = scale_shift(add(first[0], second[0]), 2.5, shift)
    params = (first[1], second[1])
    io.save(path, total, params)
    again = io.load(path)
    assert isinstance(again[1], tuple)
    same_predictions((total, params), again, water(4))
    constant = scale_shift(first[0], 0.5, -3.0)
    io.save(path, constant, first[1])
    same_predictions((constant, first[1]), io.load(path), water(4))


def test_a_descriptor_of_the_user_is_found_by_its_name(path):
    case = Case(Kernel(powers, matern52, SWAP), 2.0, water(4))
    potential = gdml.potential(case.kernel)
    params = potential.init(
        jax.random.key(0), case.references, hyper={"lengthscale": 2.0, "exponent": 2.0}
    )
    io.save(path, potential, params)
    with pytest.raises(ValueError, match=r"unknown descriptor 'powers'; known: .*pass it to load"):
        io.load(path)
    again = io.load(path, descriptors={"powers": powers})
    same_predictions((potential, params), again, water(4))


DESCRIPTORS = {
    "acsf": lambda: descriptors.acsf(
        ("H", "O"), 4.0, g2=((0.5, 0.1), (1.5, 1.0)), g3=(1.2,), g4=((0.1, 2, -1.0),),
        g5=((0.2, 1, 1.0),), cutoff_function="polynomial",
    ),
    "ani": lambda: descriptors.ani(
        (8, 1), radial_cutoff=4.0, radial_width=2.0, radial_shifts=(0.9, 1.4), angular_cutoff=3.0,
        angular_width=1.5, zeta=8.0, angular_shifts=(1.0,), sections=(0.3, 2.0),
    ),
    "bessel": lambda: descriptors.bessel_power_spectrum((1, 8), 3.0, 2),
    "eigenvalues": lambda: descriptors.coulomb_eigenvalues(4),
    "fchl19": lambda: descriptors.fchl19(
        (1, 8), radial_cutoff=3.0, angular_cutoff=2.5, radial_functions=4, angular_functions=3,
        two_body_width=0.4, softening=0.05,
    ),
    "chiral_distances": lambda: descriptors.chiral_distances(
        ((0, 1, 2, 3),), weight=0.7, power=1.5
    ),
    "internal": lambda: descriptors.internal(((0, 1), (0, 2)), ((1, 0, 2),), weighted=False),
    "smooth_images": lambda: descriptors.smooth_images(sharpness=4.0),
    "soap": lambda: descriptors.soap(
        (1, 8), 3.0, radial_functions=2, max_degree=1, width=0.37, transition_width=0.4
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors_with_settings_come_back_as_they_were(name):
    descriptor = DESCRIPTORS[name]()
    builder, settings = descriptors.record(descriptor)
    assert set(settings) == {f.name for f in dataclasses.fields(descriptor)}
    text = json.dumps(io._encode(Spec(builder, settings), {}))
    again = io._decode(json.loads(text), {}, {})
    assert again == descriptor
    assert type(again) is type(descriptor)


def test_all_descriptors_of_the_library_have_a_record():
    made = {type(make()) for make in DESCRIPTORS.values()}
    assert made == {kind for kind, _ in descriptors.BUILDERS.values()}
    named = {type(d) for d in descriptors.NAMED.values()}
    known = (c for c in vars(descriptors).values() if isinstance(c, type))
    kinds = {c for c in known if dataclasses.is_dataclass(c)}
    assert kinds == made | named
    for descriptor in descriptors.NAMED.values():
        assert descriptors.record(descriptor) is None
        assert descriptors.is_known(descriptor)
    assert not descriptors.is_known(powers)


@pytest.mark.parametrize("name", [pytest.param("eigenvalues", marks=pytest.mark.slow), "internal"])
def test_round_trip_of_kernels_of_descriptors_with_settings(name, path):
    descriptor = DESCRIPTORS[name]()
    kernel = (AtomicSum if name == "soap" else Kernel)(descriptor, matern52)
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), water(2), hyper={"lengthscale": 1.7})
    labels = {"forces": morse_labels(water(2))[1]}
    params, _ = gdml.fit(potential, params, labels, solver=solvers.cholesky(), regularization=1e-6)
    io.save(path, potential, params)
    again = io.load(path)
    assert again[0] is potential  # equal kernels are one potential, so nothing is compiled anew
    same_predictions((potential, params), again, water(3, seed=4))


@pytest.mark.parametrize("name", DESCRIPTORS)
@pytest.mark.slow
def test_round_trip_of_every_descriptor(name, path):
    test_round_trip_of_kernels_of_descriptors_with_settings(name, path)


def test_lists_of_references_are_kept(path):
    case = WITH_LISTS["listed"]()
    model = random_params(case)
    io.save(path, *model)
    again = io.load(path)
    assert again[0] is model[0]
    jax.tree.map(np.testing.assert_array_equal, model[1], again[1])
    assert jax.tree.structure(model[1]) == jax.tree.structure(again[1])
    total = add(model[0], model[0])
    io.save(path, total, (model[1], model[1]))
    assert bind(*io.load(path)).cutoffs == (2.8,)


def test_potentials_without_a_recipe_are_refused(path):
    generic = random_params(CASES["generic"]())
    assert not hasattr(log_distances, "name")
    with pytest.raises(ValueError, match="`name` attribute"):
        io.save(path, *generic)
    baseline = springs([[0, 1], [0, 2]])
    total = add(baseline, random_params(CASES["matern52"]())[0])
    with pytest.raises(ValueError, match="without a spec"):
        io.save(path, total, ())
    assert not path.exists()


def test_parameters_that_a_file_cannot_hold_are_refused(path):
    potential, params = random_params(CASES["matern52"]())
    with pytest.raises(ValueError, match="cannot hold set"):
        io.save(path, potential, {**params, "extra": {1, 2}})
    assert not path.exists()


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    model = random_params(CASES["matern52"]())
    io.save(path, *model)
    before = path.read_bytes()
    other = {**model[1], "constant": jnp.asarray(9.0)}

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        io.save(path, model[0], other)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.fixture
def content(path):
    """Bytes, arrays and description of a good file."""
    io.save(path, *random_params(CASES["matern52"]()))
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        structure = json.loads(file.metadata()["jaxff"])
    return path.read_bytes(), arrays, structure


def test_no_code_is_in_a_file(content):
    data, _, structure = content
    assert set(structure) == {"format", "spec", "params"}
    assert b"pickle" not in data
    assert structure["spec"]["spec"] == "gdml"


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, 0.999])
def test_truncated_files_are_refused(path, content, keep):
    data = content[0]
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a model"):
        io.load(path)


def test_garbage_is_refused(path):
    for data in (b"hello", bytes(1000), b"\xff" * 64, b'{"jaxff": 1}'):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.safetensors: not a model"):
            io.load(path)


def test_safetensors_of_others_are_refused(path):
    save_file({"weight": np.ones(3)}, path)
    with pytest.raises(ValueError, match=r"model\.safetensors: not a model"):
        io.load(path)
    save_file({"weight": np.ones(3)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.safetensors: not a model"):
        io.load(path)


def without(entry):
    def change(structure):
        del structure[entry]

    return change


def set_spec(**changes):
    def change(structure):
        structure["spec"].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(format="jaxff-99"), "jaxff-99"),
        (without("format"), "format"),
        (without("spec"), "spec"),
        (set_spec(spec="os.system"), "unknown potential 'os.system'"),
        (lambda s: s["spec"]["arguments"].update(base={"value": "__class__"}), "unknown base"),
        (lambda s: s["spec"]["arguments"].update(base={"value": ["rbf"]}), "damaged"),
        (lambda s: s["spec"]["arguments"].update(descriptor={"value": "__doc__"}), "descriptor"),
        (lambda s: s["spec"]["arguments"].update(descriptor={"array": "0"}), "damaged"),
        (lambda s: s["spec"]["arguments"].update(descriptor={"value": 3}), "descriptor"),
        (lambda s: s["spec"]["arguments"].update(permutations={"array": "99"}), "99"),
        (lambda s: s["spec"]["arguments"].update(more={"value": 1}), "more"),
        (lambda s: s.update(params={"banana": 1}), "unknown kind of entry 'banana'"),
        (lambda s: s.update(params=[]), "damaged"),
        (lambda s: s.update(params={"value": None, "dict": {}}), "unexpected entries"),
        (lambda s: s.update(params={}), "damaged"),
        (lambda s: s.update(spec={"value": 3}), "no potential"),
        (
            lambda s: s.update(spec={"spec": "add", "arguments": {"potentials": {"list": []}}}),
            "add",
        ),
    ],
)
def test_descriptions_of_something_else_are_refused(path, content, change, message):
    _, arrays, structure = content
    change(structure)
    save_file(arrays, path, metadata={"jaxff": json.dumps(structure)})
    with pytest.raises(ValueError, match=rf"model\.safetensors: not a model.*{message}"):
        io.load(path)


def without_expansion(structure, arrays):
    del structure["params"]["dict"]["expansion"]


def narrower(structure, arrays):
    """Features of another width."""
    name = structure["params"]["dict"]["expansion"]["dict"]["features"]["array"]
    arrays[name] = arrays[name][:, 1:]


def other_atoms(structure, arrays):
    """A group that exchanges atoms of other elements."""
    name = structure["params"]["dict"]["numbers"]["array"]
    arrays[name] = np.array([8, 9, 1], arrays[name].dtype)


@pytest.mark.parametrize("change", [without_expansion, narrower, other_atoms])
def test_parameters_of_another_kernel_are_refused(path, change):
    io.save(path, *random_params(CASES["matern52"]()))
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        structure = json.loads(file.metadata()["jaxff"])
    change(structure, arrays)
    save_file(arrays, path, metadata={"jaxff": json.dumps(structure)})
    with pytest.raises(ValueError, match=r"model\.safetensors: not a model of jaxff, or damaged"):
        io.load(path)


def test_a_description_that_is_no_json_is_refused(path, content):
    for text in ("{", "[]", "3", "null", '"gdml"'):
        save_file(content[1], path, metadata={"jaxff": text})
        with pytest.raises(ValueError, match=r"model\.safetensors: not a model"):
            io.load(path)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors: no such file"):
        io.load(tmp_path / "nothing.safetensors")


def test_every_recipe_of_the_library_can_be_written_down(path):
    """A spec may hold arrays, numbers, text, None and further specs."""
    arguments = {"potentials": [random_params(CASES["rbf"]())[0].spec], "scale": 1.0, "shift": 0.0}
    potential, params = random_params(CASES["rbf"]())
    combined = scale_shift(potential, 1.0, 0.0)
    assert combined.spec is not None
    assert combined.spec.builder == "scale_shift"
    assert set(combined.spec.arguments) == set(arguments)
    unknown = Potential(potential.init, potential.apply, spec=Spec("unknown", arguments))
    io.save(path, unknown, params)
    with pytest.raises(ValueError, match="unknown potential 'unknown'"):
        io.load(path)


def test_networks_run_in_the_precision_asked_for(path):
    sizes = {"features": 4, "interactions": 1, "cutoff": 3.0}
    model = scale_shift(networks.schnet(**sizes), 2.0, 0.5)
    system = System(water(1).positions[0], [8, 1, 1])
    listed = neighbor_list(3.0).allocate(system)
    params = jax.jit(model.init)(jax.random.key(0), system, listed)
    io.save(path, model, params)
    exact = scale_shift(networks.schnet(**sizes, dtype="float64"), 2.0, 0.5)
    again = io.load(path, dtype="float64")
    single, expected, found = (
        float(bind(*one)(system, listed)) for one in ((model, params), (exact, params), again)
    )
    assert found == expected
    assert 0 < abs(single - expected) < 1e-4
    io.save(path, *random_params(CASES["rbf"]()))
    with pytest.raises(ValueError, match="is that of networks, and it holds none"):
        io.load(path, dtype="float64")

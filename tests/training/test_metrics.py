import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, bind, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52
from jaxff.potential import Potential
from jaxff.training import errors, predict, shared_geometries, table
from jaxff.training.metrics import unit_symbol


def _energy(params, system, neighbors=None):
    return {"energy": params["k"] * jnp.sum(system.positions**2, axis=(-2, -1))}


SPRING = Potential(lambda key, system, neighbors=None: {"k": jnp.array(0.5)}, _energy)


@pytest.fixture
def frames():
    return System(np.random.default_rng(0).normal(size=(7, 3, 3)), [1, 6, 8])


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 50])
def test_predict_is_the_same_for_any_batch(frames, batch):
    seen = []
    found = predict(bind(SPRING, {"k": 1.5}), frames, batch=batch, progress=seen.append)
    np.testing.assert_allclose(found["energy"], 1.5 * np.sum(frames.positions**2, axis=(1, 2)))
    np.testing.assert_allclose(found["forces"], -3.0 * frames.positions)
    assert seen[-1] == 7
    assert seen == sorted(seen)


def test_predict_compiles_once(frames):
    compiled = []

    def listen(event, duration, **fields):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(fields.get("fun_name"))

    predict(bind(SPRING, {"k": jnp.asarray(1.0)}), frames, batch=3)
    jax.monitoring.register_event_duration_secs_listener(listen)
    predict(bind(SPRING, {"k": jnp.asarray(2.0)}), frames, batch=3)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


def test_predict_nothing_and_nonsense(frames):
    none = jax.tree.map(lambda leaf: leaf[:0], frames)
    assert predict(bind(SPRING, {"k": 1.0}), none)["forces"].shape == (0, 3, 3)
    with pytest.raises(ValueError, match="stack"):
        predict(bind(SPRING, {"k": 1.0}), System(np.zeros((3, 3)), [1, 1, 1]))
    with pytest.raises(ValueError, match="batch"):
        predict(bind(SPRING, {"k": 1.0}), frames, batch=0)


def test_errors_by_hand():
    labels = {"energy": np.zeros(2), "forces": np.zeros((2, 1, 3))}
    predicted = {"energy": np.array([3.0, -1.0]), "forces": np.full((2, 1, 3), -2.0)}
    report = errors(predicted, labels)
    assert report["energy"] == {
        "mae": 2.0, "rmse": pytest.approx(np.sqrt(5.0)), "max": 3.0, "unit": "eV", "frames": 2
    }  # fmt: skip
    assert report["forces"]["mae"] == report["forces"]["rmse"] == 2.0


def test_errors_in_units_of_the_file():
    labels = {"energy": np.zeros(1), "forces": np.zeros((1, 1, 3))}
    predicted = {"energy": np.ones(1), "forces": np.ones((1, 1, 3))}
    report = errors(predicted, labels, {"energy": "kcal/mol", "forces": "kcal/mol/bohr"})
    assert report["energy"]["mae"] == pytest.approx(23.060548, rel=1e-6)
    assert report["forces"]["mae"] == pytest.approx(23.060548 * units.BOHR, rel=1e-6)
    assert report["forces"]["unit"] == "kcal/mol/bohr"
    with pytest.raises(ValueError, match="dimension"):
        errors(predicted, labels, {"energy": "Ang"})


def test_errors_refuses_a_missing_prediction():
    with pytest.raises(ValueError, match="got nothing"):
        errors({}, {"energy": np.zeros(2)})
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        errors({"energy": np.zeros((2, 1))}, {"energy": np.zeros(2)})


def test_errors_of_no_frames_are_no_zeros():
    report = errors({"energy": np.zeros(0)}, {"energy": np.zeros(0)})
    assert np.isnan(report["energy"]["mae"])


def test_table_has_numbers_and_units():
    labels = {"energy": np.zeros(2), "forces": np.zeros((2, 1, 3))}
    predicted = {"energy": np.full(2, 0.12345), "forces": np.full((2, 1, 3), 7.0)}
    text = table(errors(predicted, labels, {"forces": "eV/Ang"}), "Test errors")
    lines = text.splitlines()
    assert lines[0] == "Test errors"
    assert lines[2].split() == ["energy", "0.1235", "0.1235", "0.1235", "eV", "2"]
    assert lines[3].split() == ["forces", "7", "7", "7", "eV/Å", "2"]


def test_shared_geometries_finds_references_in_any_order_and_precision(frames):
    model = gdml.potential(Kernel(inverse_distances, matern52))
    positions = np.asarray(frames.positions)
    references = System(positions[[4, 1, 6]], [1, 6, 8])
    params = model.init(jax.random.key(0), references, hyper={"lengthscale": 2.0})
    stored = positions.astype(np.float32).astype(float) + 1.0  # moved as a whole, too
    found = shared_geometries(model, params, System(stored, [1, 6, 8]))
    np.testing.assert_array_equal(np.flatnonzero(found), [1, 4, 6])
    near = System(positions + 1e-3 * np.eye(3), [1, 6, 8])
    assert not shared_geometries(model, params, near).any()
    with pytest.raises(ValueError, match="3 atoms"):
        shared_geometries(model, params, System(np.ones((1, 2, 3)), [1, 1]))


@pytest.mark.parametrize(
    ("unit", "symbol"),
    [
        ("kcal/mol/Angstrom", "kcal/mol/Å"),
        ("eV/Ang", "eV/Å"),
        ("angstrom", "Å"),
        ("kJ/mol/bohr",) * 2,
    ],
)
def test_unit_symbol(unit, symbol):
    assert unit_symbol(unit) == symbol

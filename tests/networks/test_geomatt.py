"""Geometric attention: against its original, plain loops, and what the house asks of potentials."""

import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxff import System, bind, energy_and_forces, hessian, io, pack, scale_shift, stack
from jaxff.networks import ATTENTION_PATHS, attention, attention_mask, geomatt, vertex_features

ORDERS, LAYERS, SPACING, GAMMA, EXTENT = (2, 3, 4, 5), 2, 0.5, 2.0, 4.0
MODELS = ("k234", "k34_shared", "k2", "k3", "k4")
SLOTS = "QRS"


def converted(stored, model, orders, layers, shared):
    """Parameters of the original, by our names: kernels turned, layers and slots stacked."""

    def get(name, turned=False):
        value = stored[f"params/{model}.{name}"]
        return value.T if turned else value

    params = {
        "embedding": np.stack([get(f"{e}_embeddings")[0, 0] for e in ("H", "Li", "C", "N", "O")])
    }
    for stream, order in enumerate(orders):
        slots = SLOTS[:1] if shared else SLOTS[: order - 1]
        base = f"geom_att.streams.{stream}.interactions"

        def slotted(kind, ending, base=base, slots=slots):
            rows = [
                [
                    get(f"{base}.{layer}.correlator.{s}{ending}.{kind}", kind == "weight")
                    for s in slots
                ]
                for layer in range(layers)
            ]
            return np.array(rows)

        params[f"order_{order}"] = {
            "attention": {
                "kernel": np.moveaxis(slotted("weight", ""), 2, 0),
                "bias": slotted("bias", ""),
                "scale_kernel": np.moveaxis(slotted("weight", "_0"), 2, 0),
                "scale_bias": slotted("bias", "_0"),
            },
            "values": {
                "kernel": np.stack([get(f"{base}.{i}.W.weight", True) for i in range(layers)]),
                "bias": np.stack([get(f"{base}.{i}.W.bias") for i in range(layers)]),
            },
        }
    for ours, theirs in (("hidden", "Q"), ("energy", "R")):
        name = f"energy_extractor.{theirs}"
        params[ours] = {"kernel": get(f"{name}.weight", True), "bias": get(f"{name}.bias")}
    return params


@pytest.fixture(scope="module")
def stored(reference_dir):
    with np.load(reference_dir / "geomatt.npz") as file:
        return {name: file[name] for name in file.files}


def compare(value, expected, tolerance, atleast=0.0):
    scale = max(np.abs(expected).max(), atleast)
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * scale)


def padded(positions, numbers, size):
    """A system filled up with atoms that do not exist, all in one place."""
    rest = size - len(numbers)
    return System(np.pad(positions, ((0, rest), (0, 0))), np.pad(numbers, (0, rest)))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        *((model, jnp.float64) for model in MODELS),
        *((model, jnp.float32) for model in MODELS[:2]),
        *(pytest.param(m, jnp.float32, marks=pytest.mark.slow) for m in MODELS[2:]),
    ],
)
def test_the_original_network(stored, model, dtype):
    options = json.loads(str(stored["hyperparameters"]))
    own = options["models"][model]
    potential = geomatt(
        orders=own["orders"], features=options["F_v"], filters=options["F_i"],
        layers=options["n_layers"], shared=own["shared"], gamma=options["gamma"],
        spacing=options["interval"], extent=options["d_max"], dtype=dtype,
    )  # fmt: skip
    params = converted(stored, model, own["orders"], options["n_layers"], own["shared"])
    wide = dtype == jnp.float64
    for_energy, for_forces, for_attention = (1e-10, 1e-9, 1e-10) if wide else (2e-6, 5e-5, 1e-5)
    names = [s for s in stored["names"] if f"{s}/{model}/energy" in stored]
    assert len(names) >= 2
    size = max(len(stored[f"{name}/Z"]) for name in names)
    systems = stack([padded(stored[f"{name}/R"], stored[f"{name}/Z"], size) for name in names])

    @jax.jit
    def everything(params, systems):
        energy_fn = bind(potential, params)
        analysed = [f(potential, params, systems) for f in (attention, vertex_features)]
        atomic = energy_fn.outputs(systems)["atomic_energies"]
        return *energy_and_forces(energy_fn)(systems), atomic, *analysed

    results = everything(params, systems)
    for index, name in enumerate(names):
        count = len(stored[f"{name}/Z"])
        energy, force, atomic, alphas, features = jax.tree.map(lambda x, i=index: x[i], results)
        expected = stored[f"{name}/{model}/energy"]
        assert abs(energy - expected) <= for_energy * count * np.abs(atomic).max()
        compare(force[:count], stored[f"{name}/{model}/forces"], for_forces, atleast=1.0)
        streams = np.split(features[:count], len(own["orders"]), axis=-1)
        for order, last in zip(own["orders"], streams, strict=True):
            prefix = f"{name}/{model}/stream_k{order}"
            for layer, alpha in enumerate(alphas[order][:, :count, :count]):
                compare(alpha, stored[f"{prefix}/attention_layer{layer}"], for_attention)
            compare(last, stored[f"{prefix}/v_out"], for_attention)
        assert not any(
            np.any(alpha[:, count:]) or np.any(alpha[..., count:]) for alpha in alphas.values()
        )
        assert not np.any(features[count:])


@pytest.fixture(scope="module")
def potential():
    return geomatt(
        ["H", "C", "O"], orders=ORDERS, features=4, filters=8, layers=LAYERS, spacing=SPACING,
        gamma=GAMMA, extent=EXTENT, dtype=jnp.float64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def system():
    return System(1.2 * np.random.default_rng(3).normal(size=(4, 3)), np.array([8, 1, 6, 1]))


@pytest.fixture(scope="module")
def params(potential, system):
    """Drawn, and enlarged so that every order matters."""
    drawn = jax.jit(lambda key: potential.init(key, system))(jax.random.key(0))
    return jax.tree.map(lambda leaf: 2.0 * leaf, drawn)


def looped(own, order, distances):
    """Attention of all layers by the sum over all paths, one by one."""
    centres = np.arange(0.0, EXTENT, SPACING)
    own = {name: np.asarray(value) for name, value in own.items()}

    def filters(distance, layer, slot):
        parts = [
            np.exp(-GAMMA * (d - centres) ** 2) @ own[f"{kind}kernel"][:, layer, slot]
            + own[f"{kind}bias"][layer, slot]
            for kind, d in (("scale_", 0.0), ("", distance))
        ]
        return parts[0] * parts[1]

    atoms = range(len(distances))
    alpha = np.zeros((LAYERS, len(atoms), len(atoms)))
    for layer, *path in itertools.product(range(LAYERS), *[atoms] * order):
        steps = [
            filters(distances[one, other], layer, slot)
            for slot, (one, other) in enumerate(itertools.pairwise(path))
        ]
        alpha[layer, path[0], path[-1]] += np.prod(steps, axis=0).sum()
    return SPACING / len(ORDERS) * alpha


def test_attention_is_the_sum_over_all_paths(potential, params, system):
    alphas = jax.jit(lambda p, s: attention(potential, p, s))(params, system)
    positions = np.asarray(system.positions)
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    for order in ORDERS:
        expected = looped(params[f"order_{order}"]["attention"], order, distances)
        compare(alphas[order], expected, 1e-12)


def test_forces_and_hessian_are_exact_derivatives(potential, params, system):
    """Although every sum holds the distance of an atom from itself."""
    energy_fn, step = bind(potential, params), 1e-4
    evaluate = jax.jit(lambda r: energy_and_forces(energy_fn)(system.replace(positions=r)))
    moves = step * np.eye(12).reshape(12, 4, 3)
    ahead, behind = (
        [evaluate(system.positions + sign * move) for move in moves] for sign in (1, -1)
    )
    slopes = [(a[0] - b[0]) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    curves = [-(a[1] - b[1]) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    assert np.abs(slopes).max() > 1e-3
    compare(evaluate(system.positions)[1].ravel(), -np.array(slopes), 1e-6)
    found = jax.jit(hessian(energy_fn))(system)
    compare(np.reshape(found, (12, 12)), np.reshape(curves, (12, 12)), 1e-6)


def test_attention_is_seen_through_scale_and_shift_only(potential, params, system):
    plain = jax.jit(lambda p, s: vertex_features(potential, p, s))(params, system)
    shifted = scale_shift(potential, 2.0, -3.0)
    assert plain.shape == (4, 4 * len(ORDERS))
    compare(jax.jit(lambda p, s: vertex_features(shifted, p, s))(params, system), plain, 1e-14)
    with pytest.raises(ValueError, match=r"made by geomatt, .* got one without a spec"):
        attention(potential.__class__(potential.init, potential.apply), params, system)


def test_a_file_rebuilds_it(potential, params, system, tmp_path):
    io.save(tmp_path / "model", potential, params)
    again, loaded = io.load(tmp_path / "model")
    assert again is potential  # equal arguments share compiled code
    jax.tree.map(np.testing.assert_array_equal, params, loaded)


def test_transfer_learning_keeps_the_attention(potential, params, system):
    mask = attention_mask(params)
    paths = jax.tree_util.tree_leaves_with_path(mask)
    frozen = {jax.tree_util.keystr(p, simple=True, separator="/") for p, on in paths if on}
    assert frozen == {
        f"order_{order}/attention/{name}"
        for order in ORDERS
        for name in ("kernel", "bias", "scale_kernel", "scale_bias")
    }
    assert all(re.fullmatch(ATTENTION_PATHS, f"1/{path}") for path in frozen)
    optimizer = optax.chain(optax.sgd(1e-2), optax.masked(optax.set_to_zero(), mask))

    @jax.jit
    def update(params):
        gradient = jax.grad(lambda p: bind(potential, p)(system))(params)
        return optimizer.update(gradient, optimizer.init(params))[0]

    updates = update(params)
    for still, update in zip(jax.tree.leaves(mask), jax.tree.leaves(updates), strict=True):
        assert np.any(update) != still
    with pytest.raises(ValueError, match="no parameter is of an attention"):
        attention_mask({"hidden": params["hidden"]})


def test_what_it_cannot_see_is_refused(potential, params, system):
    energy_fn = bind(potential, params)
    with pytest.raises(ValueError, match="no packs; use stack"):
        energy_fn(pack([system, system]))
    with pytest.raises(ValueError, match=r"for molecules.* drop the cell"):
        energy_fn(system.replace(cell=9.0 * jnp.eye(3), pbc=jnp.ones(3, bool)))
    strange = system.replace(numbers=jnp.asarray([8, 1, 6, 7]))
    with pytest.raises(ValueError, match=r"made for the elements \[1, 6, 8\].* has \[7\]"):
        energy_fn(strange)
    assert np.isnan(jax.jit(energy_fn)(strange))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": (2, 6)}, r"orders must be some of \(2, 3, 4, 5\)"),
        ({"orders": (3, 3)}, "each once"),
        ({"orders": (5,), "filters": 12}, "divisible by 8 for order 5"),
        ({"layers": 0}, "sizes positive"),
        ({"spacing": 6.0}, "at least one spacing"),
        ({"elements": ("H", "H")}, "named once each"),
    ],
)
def test_networks_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        geomatt(**options)

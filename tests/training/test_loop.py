"""The training step: one compiled program with every option, against arithmetic by hand."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxff import add, bind, scale_shift
from jaxff.training.batch import stack_batches
from jaxff.training.ensemble import ensemble
from jaxff.training.loop import trainer
from jaxff.training.losses import Term, weighted
from jaxff.training.validation import validate
from training import batches
from training.batches import LOOSE, NETWORK, SPRING, batch, params

LOSS = weighted(energy=1.0, forces=2.0)
SLOW = 0.05


def spring(**options):
    """A trainer of two numbers: programs of it compile fast."""
    return trainer(SPRING, LOSS, options.pop("optimizer", optax.sgd(SLOW)), **options)


@pytest.fixture(scope="module")
def records():
    return [batch(i, (3, 2), lists=False, missing=[("energy", i % 2)]) for i in range(4)]


def run(steps, records, key=0, **start):
    """States before and after every step, on the host, and what the steps say."""
    state = steps.init(jax.random.key(key), records[0], **start)
    states, infos = [jax.device_get(state)], []
    for record in records:
        state, info = steps.step(state, record)
        states.append(jax.device_get(state))
        infos.append(jax.device_get(info))
    return states, infos


@pytest.fixture(scope="module")
def plain(records):
    return run(spring(ema=0.9, debias=False), records)


def slopes(values, record):
    return jax.jit(jax.value_and_grad(lambda v: LOSS(bind(SPRING, v), record)))(values)


def test_a_step_of_descent_by_hand(plain, records):
    states, infos = plain
    loss, gradient = slopes(states[1].params, records[1])
    np.testing.assert_allclose(infos[1].loss, loss, rtol=1e-12)
    norm = np.sqrt(sum(leaf**2 for leaf in gradient.values()))
    np.testing.assert_allclose(infos[1].gradient_norm, norm, rtol=1e-12)
    for name, slope in gradient.items():
        moved = states[1].params[name] - SLOW * slope
        np.testing.assert_allclose(states[2].params[name], moved, rtol=1e-12)
    assert [s.step for s in states] == [0, 1, 2, 3, 4]
    assert all(info.finite for info in infos)


def test_averages_are_their_formula(plain, records):
    states, _ = plain
    average = states[0].params["k"]
    for state in states[1:]:
        average = 0.9 * average + 0.1 * state.params["k"]
        np.testing.assert_allclose(state.average["k"], average, rtol=1e-12)
        assert state.averaged is state.average
    free, _ = run(spring(ema=0.9), records)
    average = 0.0
    for t, state in enumerate(free[1:], 1):
        average = 0.9 * average + 0.1 * state.params["k"]
        np.testing.assert_allclose(state.average["k"], average / (1 - 0.9**t), rtol=1e-12)
        np.testing.assert_array_equal(state.params["k"], states[t].params["k"])


def test_clipped_gradients_and_lowered_rates(plain, records):
    states, infos = plain
    norms = [float(info.gradient_norm) for info in infos]
    short, long = int(np.argmin(norms)), int(np.argmax(norms))
    limit = 0.5 * (norms[short] + norms[long])
    steps = spring(clip=limit)
    for index, factor in ((short, 1.0), (long, limit / norms[long])):
        start = jax.tree.map(jnp.asarray, states[index].params)
        state = steps.init(jax.random.key(0), records[0], start)
        assert state.average is None
        state, info = steps.step(state._replace(rate=jnp.float32(0.25)), records[index])
        np.testing.assert_allclose(info.gradient_norm, norms[index], rtol=1e-12)
        for name, value in state.params.items():
            full = states[index + 1].params[name] - states[index].params[name]
            wanted = states[index].params[name] + 0.25 * factor * full
            np.testing.assert_allclose(value, wanted, rtol=1e-12)
        assert state.averaged is state.params


def test_batches_in_parts_are_one_batch(records):
    """Means over what is labelled anywhere, not means of means: the batches have unequal labels."""
    joined = batch(0, (3, 2, 3, 2, 3, 2, 3, 2), lists=False)
    parts = [slice(5 * i + 2 * i, 5 * i + 2 * i + 5) for i in range(4)]
    stacked = stack_batches(records)
    flat = stacked.system.positions.reshape(-1, 3)
    rows = np.concatenate([np.arange(s.start, s.stop) for s in parts] + [[5, 6]])
    energy = np.asarray(stacked.labels["energy"])[:, :2].ravel()
    mask = np.asarray(stacked.masks["energy"])[:, :2].ravel()
    joined = joined._replace(
        system=joined.system.replace(positions=flat[rows]),
        labels={
            "energy": np.append(energy, 0.0),
            "forces": stacked.labels["forces"].reshape(-1, 3)[rows],
        },
        masks={"energy": np.append(mask, True), "forces": np.ones(9, bool)},
    )
    wanted, said = run(spring(), [joined])
    for accumulate in (1, 2):
        found, info = run(spring(accumulate=accumulate), [stacked])
        np.testing.assert_allclose(info[0].loss, said[0].loss, rtol=1e-13)
        for name, value in wanted[1].params.items():
            np.testing.assert_allclose(found[1].params[name], value, rtol=1e-13)
    with pytest.raises(ValueError, match="multiple of 3, got 4"):
        run(spring(accumulate=3), [stacked])
    with pytest.raises(ValueError, match="no such axis"):
        run(spring(accumulate=2), records)
    other = batch(1, (3, 3), lists=False)
    with pytest.raises(ValueError, match="batch 1 differs from batch 0"):
        stack_batches([records[0], other])


def test_frozen_parameters_keep_their_bits():
    record, start = batch(0), params()
    steps = trainer(
        NETWORK, LOSS, optax.adamw(1e-2, weight_decay=0.1), ema=0.9,
        frozen=["embed/.*", "filter/kernel"],
    )  # fmt: skip
    states, infos = run(steps, [record, record], params=start)
    for kept in (states[-1].params, states[-1].average):
        np.testing.assert_array_equal(kept["embed"]["embedding"], start["embed"]["embedding"])
        np.testing.assert_array_equal(kept["filter"]["kernel"], start["filter"]["kernel"])
        assert (kept["filter"]["bias"] != start["filter"]["bias"]).all()
        assert (kept["readout"]["kernel"] != start["readout"]["kernel"])[:, 0].all()
    assert infos[1].loss < infos[0].loss
    for pattern, message in (
        ("embed", "matches 'embed' as a whole; the paths are embed/embedding, filter/bias"),
        ("(", "no regular expression"),
        (".*", "nothing is left to train"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(NETWORK, LOSS, optax.sgd(0.1), frozen=[pattern]).init(
                jax.random.key(0), record, start
            )


def test_a_step_that_is_not_finite_changes_nothing(records):
    steps = spring(ema=0.9, optimizer=optax.adam(1e-2))
    bad = records[1]._replace(labels={**records[1].labels, "energy": jnp.full(3, jnp.nan)})
    bad = bad._replace(masks={name: jnp.ones(3, bool) for name in bad.masks})
    states, infos = run(steps, [records[0], bad, records[2]])
    assert [bool(info.finite) for info in infos] == [True, False, True]
    assert [bool(state.finite) for state in states] == [True, True, False, False]
    for state in states[2:]:
        same = state._replace(finite=states[1].finite)
        jax.tree.map(np.testing.assert_array_equal, _data(same), _data(states[1]))


def _data(state):
    return state._replace(key=jax.random.key_data(state.key))


def test_steps_of_one_shape_are_compiled_once_and_random_directions_change(records):
    loss = weighted(energy=1.0, hessian=Term("hessian"))
    same = batch(5, (3, 2), labels=("energy", "hessian"), lists=False)
    steps = trainer(SPRING, loss, optax.sgd(0.0))
    _, infos = run(steps, [same, same])
    assert steps.step._cache_size() == 1
    assert infos[0].terms["energy"].total == infos[1].terms["energy"].total
    assert infos[0].terms["hessian"].total != infos[1].terms["hessian"].total
    _, both = run(steps, [stack_batches([same, same])])  # each has directions of its own
    for name, alike in (("energy", True), ("hessian", False)):
        ratio = both[0].terms[name].total / infos[0].terms[name].total
        assert (abs(ratio - 2.0) < 1e-9) == alike


def test_what_is_left_out_follows_from_the_step_and_is_the_same_for_all_labels(records):
    """Energies and forces of one step are of one energy function, members have their own."""
    record = records[0]
    steps = trainer(LOOSE, LOSS, optax.sgd(0.0))
    states, infos = run(steps, [record] * 8)
    wanted = {}
    for factor in (0.0, 1.0):
        sums = LOSS.sums(bind(SPRING, {"k": 1.0, "c": factor * 0.5}), record)
        wanted[factor] = [float(sums[name].total) for name in ("energy", "forces")]
    found = [[float(i.terms[name].total) for name in ("energy", "forces")] for i in infos]
    kept = [np.allclose(pair, wanted[1.0], rtol=1e-12) for pair in found]
    assert 0 < sum(kept) < 8
    for pair, whole in zip(found, kept, strict=True):
        np.testing.assert_allclose(pair, wanted[float(whole)], rtol=1e-12)
    _, info = steps.step(jax.tree.map(jnp.asarray, states[4]), record)  # as if from a file
    assert float(info.terms["energy"].total) == found[4][0]
    _, other = run(steps, [record] * 8, key=1)
    assert [float(i.terms["energy"].total) for i in other] != [pair[0] for pair in found]
    whole = LOSS.sums(bind(SPRING, states[0].params), record)
    measured = validate(LOOSE, LOSS, states[0].params, [record])
    np.testing.assert_allclose(measured.loss, LOSS.total(whole), rtol=1e-12)
    # In parts of a batch and in members of an ensemble each draws for itself.
    _, (both,) = run(steps, [stack_batches([record] * 16)])
    energy = float(both.terms["energy"].total)
    count = (energy - 16 * wanted[0.0][0]) / (wanted[1.0][0] - wanted[0.0][0])
    assert 0.5 < count < 15.5
    np.testing.assert_allclose(count, round(count), atol=1e-9)


def test_combinations_draw_for_their_parts(records):
    system, key = records[0].system, jax.random.key(4)
    one, params = add(LOOSE, SPRING), ({"k": 1.0, "c": 0.5}, {"k": 2.0, "c": 0.5})
    shifted = scale_shift(one, 2.0, 0.0)
    several = ensemble(LOOSE)
    stacked = {"k": jnp.ones(32), "c": jnp.full(32, 0.5)}
    rest = SPRING.apply(params[1], system)["energy"]
    parts = [SPRING.apply({"k": 1.0, "c": c}, system)["energy"] for c in (0.0, 0.5)]
    gap = parts[1] - parts[0]
    share = (one.random_apply(params, system, None, key)["energy"] - rest - parts[0]) / gap
    np.testing.assert_allclose(share[:2], np.round(share[0]), atol=1e-12)
    np.testing.assert_allclose(
        shifted.random_apply(params, system, None, key)["energy"],
        2.0 * one.random_apply(params, system, None, jax.random.fold_in(key, 0))["energy"],
    )
    share = ((several.random_apply(stacked, system, None, key)["energy"] - parts[0]) / gap)[0]
    assert 0.1 < share < 0.9
    for plain in (add(SPRING, SPRING), scale_shift(SPRING, 2.0, 0.0), ensemble(SPRING)):
        assert plain.random_apply is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ema": 1.0}, "ema"), ({"clip": 0.0}, "clip"), ({"accumulate": 0}, "accumulate")],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"{message} must be"):
        spring(**options)


_TWO = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
sys.path.insert(0, {tests!r})
from training.test_loop import several_devices
np.savez(sys.argv[1], **several_devices(jax.devices()))
"""


def several_devices(devices):
    loss = weighted(energy=1.0, forces=2.0, hessian=Term("hessian"))
    labels = ("energy", "forces", "hessian")
    packs = [
        stack_batches(
            [batch(4 * i + j, (3, 2), labels=labels, lists=False, missing=[("energy", j % 2)])
             for j in range(4)]
        )
        for i in range(2)
    ]  # fmt: skip
    steps = trainer(SPRING, loss, optax.adam(1e-2), ema=0.5, accumulate=2, devices=devices)
    state = steps.init(jax.random.key(1), packs[0])
    for pack in packs:
        state, info = steps.step(state, steps.place(pack))
    return {**state.averaged, "loss": info.loss, "norm": info.gradient_norm, "n": len(devices)}


def test_two_devices_do_what_one_does(tmp_path):
    out, tests = tmp_path / "two.npz", Path(batches.__file__).parents[1]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", _TWO.format(tests=str(tests)), str(out)], check=True,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    one = several_devices(jax.devices()[:1])
    with np.load(out) as two:
        assert two["n"] == 2
        for name in ("k", "c", "loss", "norm"):
            np.testing.assert_allclose(two[name], one[name], rtol=1e-12)

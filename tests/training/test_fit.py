"""Training runs of two numbers: what they reach, remember, and how they go on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxff import bind, observe
from jaxff.data import batches
from jaxff.data.frame import Frame
from jaxff.training import run
from jaxff.training.batch import stack_batches
from jaxff.training.checkpoints import Checkpoints
from jaxff.training.fit import fit
from jaxff.training.journal import Course, Plateau
from jaxff.training.losses import weighted
from jaxff.training.run import NotFiniteError
from jaxff.training.validation import validate
from training.batches import ELEMENTS, LOOSE, SPRING, batch

TRUE = {"k": 1.3, "c": 0.2}
LOSS = weighted(energy=1.0, forces=2.0)
# Compiled programs belong to a potential and the options: tests share them where they can.
START = {"k": 1.0, "c": 0.2}
OPTIONS = {
    "loss": LOSS, "optimizer": optax.adam(0.02), "ema": 0.5, "epochs": 3, "params": START,
    "frozen": ("c",),
}  # fmt: skip


@jax.jit
def _labels(record):
    return observe(bind(SPRING, TRUE), ("energy", "forces"))(record.system)


@pytest.fixture(scope="module")
def records():
    found = [batch(i, (3, 2), lists=False, missing=[("energy", i % 2)]) for i in range(6)]
    return [r._replace(labels=jax.device_get(_labels(r))) for r in found]


@pytest.fixture(scope="module")
def result(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "logs" / "run.jsonl"
    found = fit(SPRING, records[:4], records[4:], log=path, **OPTIONS)
    return found, [json.loads(line) for line in path.read_text().splitlines()]


def values(params):
    return {name: float(value) for name, value in params.items()}


def test_validation_is_over_all_components_of_all_batches(records, result):
    best, _ = result
    measured = validate(SPRING, LOSS, best.params, records[4:], units={"energy": "meV"})
    energy, forces = [], []
    for record in records[4:]:
        found = observe(bind(SPRING, values(best.params)), ("energy", "forces"))(record.system)
        mask = np.asarray(record.masks["energy"]) & [True, True, False]
        energy.append(np.asarray(found["energy"] - record.labels["energy"])[mask])
        forces.append(np.asarray(found["forces"] - record.labels["forces"])[:5])
    energy, forces = np.concatenate(energy), np.concatenate(forces)
    np.testing.assert_allclose(measured.terms["energy"], np.mean(energy**2), rtol=1e-9)
    np.testing.assert_allclose(
        measured.loss, np.mean(energy**2) + 2 * np.mean(forces**2), rtol=1e-9
    )
    row = measured.errors["energy"]
    np.testing.assert_allclose(row["mae"], 1e3 * np.mean(abs(energy)), rtol=1e-9)
    np.testing.assert_allclose(row["max"], 1e3 * np.max(abs(energy)), rtol=1e-9)
    assert (row["unit"], row["frames"]) == ("meV", 2)
    np.testing.assert_allclose(measured.errors["forces"]["rmse"], np.sqrt(np.mean(forces**2)))
    assert measured.errors["energy_per_atom"]["unit"] == "meV/atom"
    assert measured.errors["energy_per_atom"]["mae"] < row["mae"] / 2 + 1e-12
    assert measured.errors["forces"] == best.errors["forces"]
    assert "forces" in best.table()


def test_stacked_batches_are_validated_like_each_of_them(records):
    each = validate(SPRING, LOSS, START, records[4:])
    stacked = validate(SPRING, LOSS, START, [stack_batches(records[4:])])
    for found, wanted in zip(
        jax.tree.leaves(stacked._asdict()), jax.tree.leaves(each._asdict()), strict=True
    ):
        assert found == (wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=1e-12))


def test_a_run_learns_and_says_how(records, result):
    best, log = result
    assert (best.stopped, best.steps) == ("epochs", 12)
    assert [entry["step"] for entry in log] == [4, 8, 12]
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert log == best.history
    losses = [entry["valid"]["loss"] for entry in log]
    assert [entry["best"] for entry in log] == [
        v == min(losses[: i + 1]) for i, v in enumerate(losses)
    ]
    assert best.step == 4 * (1 + losses.index(min(losses)))
    assert min(losses) < 0.7 * validate(SPRING, LOSS, START, records[4:]).loss
    assert log[0]["train"].keys() == {"loss", "energy", "forces"}
    assert log[-1]["compilations"] == log[0]["compilations"] == 2
    assert log[-1]["seconds"] > log[0]["seconds"] > 0


def test_mixed_sizes_compile_at_most_six_programs():
    """With the default shapes of batches, in training and validation together."""
    rng = np.random.default_rng(0)

    def frame(count):
        labels = {"energy": np.asarray(rng.normal()), "forces": rng.normal(size=(count, 3))}
        return Frame(np.ones(count, int), rng.normal(size=(count, 3)), labels)

    frames = [frame(count) for count in rng.integers(1, 30, 80)]
    train, valid = (batches(f, batch_size=4, seed=0) for f in (frames[:60], frames[60:]))
    assert len(train.buckets.shapes) > 1
    found = fit(SPRING, train, valid, **OPTIONS | {"epochs": 4})
    compilations = [entry["compilations"] for entry in found.history]
    assert 2 < compilations[-1] <= 6
    shapes = {len(train.batch(e, i).system.numbers) for e in range(4) for i in range(len(train))}
    assert len(shapes) > 1


class StopError(Exception):
    pass


class Watched:
    """Batches in order, of which one can be made to stop the run."""

    def __init__(self, records, stop=None):
        self.records, self.stop, self.count, self.seen = records, stop, 0, []

    def __len__(self):
        return len(self.records)

    def epoch(self, epoch, start):
        for index in np.random.default_rng(epoch).permutation(len(self.records))[start:]:
            if self.count == self.stop:
                raise StopError
            self.count += 1
            self.seen.append(int(index))
            yield self.records[index]


def timeless(history):
    return [{k: v for k, v in e.items() if k not in ("seconds", "compilations")} for e in history]


def test_a_stopped_run_goes_on_bit_for_bit(records, tmp_path, monkeypatch):
    """With what is left out at random, too."""
    monkeypatch.setattr(run, "_GROUP", 2)
    options = {**OPTIONS, "patience": 50, "plateau": Plateau(0.5, 0), "checkpoint_every": 3}
    data = records
    whole = fit(LOOSE, Watched(data[:4]), data[4:], checkpoints=tmp_path / "a", **options)
    log, folder = tmp_path / "log.jsonl", tmp_path / "b"
    seen = []
    for stop in (4, 5, None):
        part = Watched(data[:4], stop)
        try:
            again = fit(LOOSE, part, data[4:], checkpoints=folder, log=log, **options)
        except StopError:
            seen += part.seen
            continue
        finally:
            lines = [json.loads(line) for line in log.read_text().splitlines()]
        seen += part.seen
    assert timeless(again.history) == timeless(whole.history) == timeless(lines)
    assert len(again.history) == 3
    states = (whole.state, again.state)
    first, second = (s._replace(key=jax.random.key_data(s.key)) for s in states)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, whole.params, again.params)
    with pytest.raises(ValueError, match=r"belong to another run: expected .*'seed': 1"):
        fit(LOOSE, Watched(data[:4]), data[4:], checkpoints=folder, seed=1, **options)
    with pytest.raises(ValueError, match="holds checkpoints"):
        fit(LOOSE, Watched(data[:4]), data[4:], checkpoints=folder, resume=False, **options)


def test_a_loss_that_is_not_finite_names_its_frames(records, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_GROUP", 2)
    bad = records[1]
    labels = {**bad.labels, "energy": np.full(3, np.inf)}
    data = [
        records[0],
        bad._replace(labels=labels, indices=np.array([17, 4, -1])),
        records[2],
        records[3],
    ]

    class InOrder(Watched):
        def epoch(self, epoch, start):
            return iter(self.records[start:])

    options = {**OPTIONS, "checkpoints": tmp_path}
    with pytest.raises(
        NotFiniteError, match=r"step 2 .* batch 1 of epoch 0, frames \[17, 4\]"
    ) as info:
        fit(SPRING, InOrder(data), records[4:], **options)
    assert info.value.frames == [17, 4]
    good = fit(SPRING, InOrder(data[:1]), **{**OPTIONS, "epochs": 1})
    jax.tree.map(np.testing.assert_array_equal, info.value.state.params, good.state.params)
    mended = [data[0], bad, *data[2:]]
    again = fit(SPRING, InOrder(mended), records[4:], **options)
    whole = fit(SPRING, InOrder(mended), records[4:], **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)


def test_frames_of_a_file_that_break_a_run_are_named(tmp_path):
    """Batches of the data room, read 16 steps late: the frames and the state are those before."""
    rng, frames, bad = np.random.default_rng(0), [], 5
    for index in range(8):
        labels = {"energy": np.asarray(rng.normal()), "forces": rng.normal(size=(3, 3))}
        labels["forces"] *= 1e200 if index == bad else 1.0  # finite, but its square is not
        frames.append(Frame(ELEMENTS[:3], rng.normal(size=(3, 3)), labels))
    loader = batches(frames, batch_size=2, seed=0)
    steps = [step for step in range(4) if bad in loader.indices(0, step)]
    assert steps == [2]
    options = {key: value for key, value in OPTIONS.items() if key != "epochs"}
    with pytest.raises(NotFiniteError, match=r"step 3 .* batch 2 of epoch 0, frames") as info:
        fit(SPRING, loader, epochs=2, checkpoints=tmp_path, **options)
    assert info.value.frames == loader.indices(0, 2).tolist()
    before = fit(SPRING, loader, steps=2, **options).state
    for state in (info.value.state, Checkpoints(tmp_path).restore((before, START)).tree[0]):
        assert state.step == 2
        assert state.finite
        jax.tree.map(np.testing.assert_array_equal, state[:3], before[:3])


def test_what_is_not_finite_at_once_is_named(records):
    labels = records[0].labels
    bad = records[0]._replace(labels={**labels, "forces": labels["forces"] * 1e200})
    with pytest.raises(NotFiniteError, match=r"step 1 .* batch 0 of epoch 0"):
        fit(SPRING, [bad] * 4, **OPTIONS)
    system = records[4].system
    unknown = records[4]._replace(system=system.replace(positions=system.positions * np.nan))
    with pytest.raises(FloatingPointError, match="validation after step 4 gives loss = nan"):
        fit(SPRING, records[:4], [unknown], **OPTIONS)


def test_the_best_is_kept_and_patience_ends_a_run(records):
    found = fit(SPRING, records[:4], records[4:], loss=LOSS, optimizer="sgd", ema=None, epochs=50,
                learning_rate=lambda step: jnp.where(step < 4, 0.01, 0.2), patience=2,
                plateau=Plateau(0.5, patience=0), monitor="forces/mae")  # fmt: skip
    assert (found.stopped, found.step, found.steps) == ("patience", 4, 12)
    rates = [entry["learning_rate"] for entry in found.history]
    np.testing.assert_allclose(rates, [0.2, 0.2, 0.1], rtol=1e-6)  # of the next step, then halved
    assert found.state.rate == 0.25
    errors = [entry["errors"]["forces"]["mae"] for entry in found.history]
    assert min(errors) == errors[0] == found.errors["forces"]["mae"]
    assert [entry["best"] for entry in found.history] == [True, False, False]
    assert validate(SPRING, LOSS, found.params, records[4:]).errors["forces"]["mae"] == errors[0]


def test_plateaus_lower_the_rate_after_patience_and_cooldown():
    course, rates = Course(), []
    for value in (3.0, 2.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5):
        course.step += 1
        course.judge(value, Plateau(0.5, patience=1, cooldown=1, minimum=0.2))
        rates.append(course.rate)
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert (course.best, course.best_step, course.waited) == (1.0, 7, 3)
    for _ in range(10):
        course.judge(9.0, Plateau(0.5, patience=0, minimum=0.2))
    assert course.rate == 0.2


def test_nonsense_is_refused(records):
    for options, message in (
        ({"steps": 1, "epochs": 1}, "steps or epochs"),
        ({"epochs": 1, "patience": 1}, "look at validation"),
        ({"epochs": 1, "optimizer": "adamm"}, "unknown optimizer"),
        ({"epochs": 1, "validate_every": 0}, "validate_every must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(SPRING, records[:1], loss=LOSS, **options)
    with pytest.raises(ValueError, match="monitor must be one of loss, energy/mae"):
        fit(SPRING, records[:4], records[4:], monitor="force/mae", **OPTIONS)
    nothing = records[0]._replace(masks={n: np.zeros(3, bool) for n in ("energy", "forces")})
    with pytest.raises(ValueError, match=r"no structure of the validation data .* energy, forces"):
        validate(SPRING, LOSS, TRUE, [nothing])

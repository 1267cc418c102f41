"""Configurations: what they do, and what they refuse."""

import inspect
import re

import pytest

from jaxff import networks
from jaxff.cli.manual import manual, template
from jaxff.potential import Potential
from jaxff.training import config as module
from jaxff.training.config import read_config
from jaxff.training.fit import fit
from jaxff.training.journal import Plateau
from jaxff.training.loop import State
from jaxff.training.losses import Loss, Term
from jaxff.training.optimizers import named_schedule
from jaxff.training.options import documented
from jaxff.training.run import Result
from jaxff.training.sections import Data, Part, Training
from training.batches import SPRING

TEXT = """
[learning_rate]
name = "exponential_decay"
init_value = 0.02
transition_steps = 2
decay_rate = 0.5
[model]
name = "springs"
stiffness = 2
[loss]
energy_per_atom = 0.5
forces = {weight = 2, form = "huber", delta = 0.7}
[optimizer]
name = "sgd"
momentum = 0.5
[training]
steps = 2
ema = 0
frozen = ["c"]
log = "run.jsonl"
units = {forces = "kcal/mol/Ang"}
[training.plateau]
patience = 2
"""

OPTIONS = set(inspect.signature(fit).parameters)
EXPECTED = {
    "energy": {"k": 2.0, "c": 0.5},
    "data": ("train", "valid"),
    "optimizer": {"name": "sgd", "momentum": 0.5},
    "steps": 2,
    "ema": None,
    "frozen": ("c",),
    "plateau": Plateau(patience=2),
    "units": {"forces": "kcal/mol/Ang"},
    "progress": True,
    "checkpoints": None,
}


def springs(stiffness: float = 1.0, *, descriptor=None) -> Potential:
    def init(key, system, neighbors=None):
        return {"k": float(stiffness), "c": 0.5}

    return Potential(init, SPRING.apply)


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "springs", springs, raising=False)
    monkeypatch.setattr(networks, "__all__", [*networks.__all__, "springs"])

    def written(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return written


def test_a_file_says_what_arguments_say(write, tmp_path, monkeypatch):
    config = read_config(write(TEXT))
    heard = {}

    def listen(potential, train, valid, **options):
        heard.update(options, energy=potential.init(None, None), data=(train, valid))
        return Result(None, State(*[None] * len(State._fields)), 0, 0, {}, [], "steps")

    monkeypatch.setattr(module, "fit", listen)
    config.fit("train", "valid", progress=True)
    assert {name: heard[name] for name in EXPECTED} == EXPECTED
    assert heard["loss"] == Loss(
        (Term("energy", 0.5, per_atom=True), Term("forces", 2, form="huber", delta=0.7))
    )
    assert heard["log"] == tmp_path / "run.jsonl"
    assert float(named_schedule(heard["learning_rate"])(2)) == pytest.approx(0.01)
    assert set(heard) - {"energy", "data"} <= OPTIONS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[optimizer]", "[optimiser]", r"unknown section 'optimiser' \(did you mean 'optimizer'"),
        ("ema =", "emma =", r"\[training\]: option 'emma' \(did you mean 'ema'\?\); known: steps"),
        ("patience = 2", "patience = 1.5", r"\[training\] plateau patience must be an integer"),
        ("patience = 2", "patiense = 2", r"option 'patiense' \(did you mean 'patience'"),
        ("\nsteps = 2", "\nsteps = '2'", r"\[training\] steps must be an integer, got '2'"),
        ("ema = 0", "ema = true", r"ema must be a number, got True"),
        ('frozen = ["c"]', "frozen = [1]", "frozen must be a list of texts"),
        ("stiffness", "stifness", r"'springs' has no argument 'stifness' \(did you mean 'stiff"),
        ('"springs"', '"spring"', r"unknown model 'spring' \(did you mean 'springs'\?\); known:"),
        ("energy_per", "energie_per", "unknown quantity 'energie'"),
        ("delta =", "beta =", r"\[loss\] forces: option 'beta' .*known: weight, form, delta"),
        ("= 0.5\nforces", "= 'x'\nforces", r"\[loss\] energy_per_atom must be a weight"),
        ('"sgd"', '"sdg"', r"unknown optimizer 'sdg' \(did you mean 'sgd'"),
        ("\ndecay_rate", "\nrate", "schedule 'exponential_decay' has no option 'rate'"),
        ("transition_steps = 2", "transition_steps = '2'", "schedule 'exponential_decay': "),
        ("ema = 0", "ema = 1", "ema must be from 0 to below 1, got 1"),
        ("ema = 0", "seed = -1", r"\[training\] seed must not be negative"),
        ("ema = 0", "patience = 0", r"\[training\] patience must be at least 1, got 0"),
        ("ema = 0", "validate_every = 0", "validate_every must be at least 1"),
        ("ema = 0", 'monitor = "force/mae"', "monitor must be one of loss, energy/mae, .*forces/"),
        ("kcal/mol/Ang", "kcal", "units, forces: unknown unit 'kcal'"),
        ("[loss]", "[data]\ntrain = 'a.npz'\n[loss]", "patience, plateau and monitor look at"),
        ("[loss]", "[data]\ntrain = 2\nprefetch = -1\n[loss]", r"\[data\] prefetch must be at l"),
        ("stiffness = 2", "stiffness = '2'", "stiffness must be a number, got '2'"),
        ("weight = 2", "weight = '2'", r"\[loss\] forces weight must be a number"),
        ("delta = 0.7", "delta = '1'", r"\[loss\] forces delta must be a number, got '1'"),
        ("0.5\nforces = {weight = 2", "0\nforces = {weight = 0", "needs a weight above zero"),
        ('"sgd"', "3", "optimizer must be a name"),
        ("[loss]", "[[loss]]", r"a section \[loss\] is needed"),
        ("[loss]", "[loss", "not a TOML file"),
        (
            "stiffness = 2",
            "descriptor = 'soup'",
            r"unknown descriptor 'soup' \(did you mean 'soap'",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_file(write, old, new, message):
    assert old in TEXT
    with pytest.raises(ValueError, match=rf"run\.toml: .*{message}"):
        read_config(write(TEXT.replace(old, new, 1)))


def test_steps_of_a_schedule_are_keys_of_a_file():
    schedule = named_schedule(
        {"name": "piecewise_constant", "init_value": 1.0, "boundaries_and_scales": {"10": 0.1}}
    )
    assert [float(schedule(step)) for step in (9, 11)] == pytest.approx([1.0, 0.1])
    with pytest.raises(ValueError, match=r"'cosine_decay' of .* gives no number"):
        named_schedule({"name": "cosine_decay", "init_value": "1e-3", "decay_steps": 10})


def test_every_option_is_documented_and_known_to_fit():
    for kind in (Data, Part, Training, Plateau, Term):
        assert all(option.text.endswith(".") for option in documented(kind))
    options = {option.name: option for option in documented(Training)}
    assert set(options) <= set(inspect.signature(fit).parameters)
    assert options["plateau"].table is Plateau
    assert options["seed"][1:3] == ("an integer", 0)
    assert options["frozen"].kind == "a list of texts"


def test_the_template_is_a_configuration_and_its_comments_are_the_defaults(write):
    plain = read_config(write(template()))
    commented = re.sub(r"(?m)^# (\w+ = (?!\.\.\.))", r"\1", template())
    assert commented.count("\n# ") < template().count("\n# ") - 20
    told = read_config(write(commented))
    assert (told.data, told.training) == (plain.data, plain.training)
    assert told.potential().spec == plain.potential().spec
    text = manual()
    for words in ("painn", "adamw", "valid_batch_size", "[training.plateau]", "probes", "gamma"):
        assert words in text


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml: no such file"):
        read_config(tmp_path / "none.toml")

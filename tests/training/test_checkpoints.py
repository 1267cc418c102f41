"""Checkpoints: what is read is what was written, and damage is noticed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxff.training.checkpoints import Checkpoints


@pytest.fixture
def tree():
    params = {"a": {"b": np.random.default_rng(0).normal(size=(40, 30))}, "c": np.float32(0.1)}
    params = jax.tree.map(jnp.asarray, params)
    moments = optax.ScaleByAdamState(jnp.asarray(3), params, params)
    return {"params": params, "optimizer": (moments, optax.EmptyState()), "none": None,
            "key": jax.random.key(7), "flag": jnp.asarray(True)}  # fmt: skip


def changed(tree, value):
    return {**tree, "params": {**tree["params"], "c": jnp.float32(value)}}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_what_is_read_is_what_was_written_and_the_last_are_kept(tmp_path, tree, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Checkpoints("run", keep=2)  # a relative path
    assert kept.restore(tree) is None
    record = {"value": 0.1 + 0.2, "list": [1, None, {"x": "y"}], "bad": float("inf")}
    for step in (1, 2, 5):
        kept.save(step, changed(tree, step), record)
    kept.save(5, changed(tree, 50), record)
    found = Checkpoints(tmp_path / "run").restore(tree)
    assert (found.step, kept.steps) == (5, [2, 5])
    assert found.record == record
    same(found.tree, changed(tree, 50))


def test_two_runs_do_not_share_a_folder(tmp_path, tree):
    one, other = Checkpoints(tmp_path), Checkpoints(tmp_path)
    with one.alone():
        one.save(1, tree, {})
        with pytest.raises(BlockingIOError, match="another run is writing its checkpoints here"):
            other.clear()
    with other.alone():
        assert one.restore(tree).step == 1


def test_what_cannot_be_written_is_said(tmp_path, tree, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.save(1, tree, {})

    def fail(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    monkeypatch.setattr(kept._manager, "save", fail)
    with pytest.raises(OSError, match=r"checkpoint of step 2 could not .* No space left"):
        kept.save(2, tree, {})
    assert Checkpoints(tmp_path).restore(tree).step == 1


@pytest.mark.parametrize("damage", ["cut off", "flipped", "record", "missing"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, tree, damage):
    kept = Checkpoints(tmp_path)
    for step in (3, 4):
        kept.save(step, changed(tree, step), {"step": step})
    files = [f for f in (tmp_path / "4" / "tree").rglob("*") if f.is_file()]
    target = max(files, key=lambda f: f.stat().st_size)
    if damage == "record":
        target = tmp_path / "4" / "record" / "metadata"
    content = target.read_bytes()
    half = len(content) // 2
    if damage == "missing":
        target.unlink()
    elif damage == "flipped":
        target.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    else:
        target.write_bytes(content[:half])
    again = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="4: this checkpoint is damaged .* the one before it"):
        found = again.restore(tree)
    assert (found.step, found.record) == (3, {"step": 3})
    same(found.tree, changed(tree, 3))
    again.save(4, changed(tree, 4), {"step": 4})
    assert Checkpoints(tmp_path).restore(tree).step == 4
    assert (tmp_path / "damaged-4").is_dir()


def test_a_damaged_checkpoint_without_another_is_said_to_be_the_last(tmp_path, tree):
    Checkpoints(tmp_path).save(1, tree, {})
    (tmp_path / "1" / "record" / "metadata").unlink()
    with pytest.warns(UserWarning, match="none before it: start anew"):
        assert Checkpoints(tmp_path).restore(tree) is None


def test_an_unfinished_checkpoint_is_none(tmp_path, tree):
    kept = Checkpoints(tmp_path)
    kept.save(1, tree, {})
    (tmp_path / "2.orbax-checkpoint-tmp-0" / "tree").mkdir(parents=True)
    assert Checkpoints(tmp_path).restore(tree).step == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path, tree):
    kept = Checkpoints(tmp_path)
    kept.save(1, tree, {})
    other = {**tree, "params": {**tree["params"], "d": jnp.zeros(2)}}
    with pytest.raises(ValueError, match=r"other parameters or another optimizer.*params/d"):
        kept.restore(other)
    assert kept.steps == [1]
    with pytest.raises(ValueError, match="keep must be"):
        Checkpoints(tmp_path, keep=0)


_SAVES = """
import sys
import numpy as np
from jaxff.training.checkpoints import Checkpoints
kept = Checkpoints(sys.argv[1])
found = kept.restore({"a": np.zeros(5000), "b": np.zeros((), int)})
step = 0 if found is None else found.step
while True:
    step += 1
    kept.save(step, {"a": np.full(5000, step / 7), "b": np.array(step)}, {"step": step})
    print(step, flush=True)
"""


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_no_kill_loses_a_checkpoint(tmp_path, kills):
    """Processes that do nothing but write checkpoints are killed while they do."""
    rng, known, lost = np.random.default_rng(0), 0, []
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", "-c", _SAVES, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "JAX_ENABLE_X64": "1"},
        ) as child:
            saved = [int(child.stdout.readline())]
            time.sleep(rng.uniform(0, 0.5))
            child.send_signal(signal.SIGKILL)
            saved += [int(line) for line in child.stdout.read().splitlines()]
        found = Checkpoints(tmp_path).restore({"a": np.zeros(5000), "b": np.zeros((), int)})
        assert found.step >= saved[-1] > known
        assert found.record == {"step": found.step}
        np.testing.assert_array_equal(found.tree["a"], np.full(5000, found.step / 7))
        lost += [saved[0] != known + 1]
        known = found.step
    assert not any(lost)
    assert not list(tmp_path.glob("damaged-*"))

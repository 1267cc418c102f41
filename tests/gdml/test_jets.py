"""The general path's energies, in blocks."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml import jets

QUERIES = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)))}


def test_blocks_give_what_the_whole_gives_and_its_gradient(monkeypatch):
    """Seven queries in blocks of three: the last one is filled up."""

    def total(scale):
        found = jets.by_blocks(lambda q: jnp.sin(scale * jnp.sum(q["x"], axis=1)), QUERIES, 10)
        return jnp.vdot(jnp.arange(7.0), found), found

    both = jax.value_and_grad(total, has_aux=True)
    (_, whole), slope = jax.jit(both)(1.3)
    monkeypatch.setattr(jets, "_ELEMENTS", 30)
    traced = str(jax.make_jaxpr(total)(1.3))
    assert "scan" in traced or "while" in traced  # it does go in blocks
    (_, found), other = jax.jit(lambda scale: both(scale))(1.3)
    assert np.allclose(found, whole, rtol=1e-14)
    assert np.isclose(slope, other, rtol=1e-13)

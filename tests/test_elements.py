import numpy as np
import pytest

from jaxff import elements


def test_symbols_and_formula_of_ethanol():
    numbers = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
    assert elements.symbols(numbers) == ("C", "C", "O", *"HHHHHH")
    assert elements.formula(numbers) == "C2H6O"


def test_padding_has_a_symbol_and_a_wrong_number_none():
    assert elements.symbols([0, 118]) == ("X", "Og")
    for wrong in (-1, 119):
        with pytest.raises(ValueError, match=f"atomic number .*{wrong}"):
            elements.symbols([1, wrong])


@pytest.mark.parametrize(
    ("numbers", "charge", "spin", "possible"),
    [
        ([8, 1, 1], 0, 0, True),
        ([8, 1, 1], 0, 1, False),
        ([8, 1, 1], 1, 1, True),
        ([8, 1], 0, 3.0, True),
        ([1, 0], 0, 1, True),  # padding has no electrons
        ([1, 1], 0, 4, False),  # more than there are
        ([1, 1], 3, 0, False),
        ([8, 1, 1], 0.5, 1, True),  # between two states
        ([8, 1, 1], 0, np.nan, True),  # not known
    ],
)
def test_unpaired_electrons_of_some_charge(numbers, charge, spin, possible):
    problem = elements.impossible_spin(np.array(numbers), charge, spin)
    assert (problem is None) == possible
    if problem is not None:
        assert f"{spin:g} cannot be unpaired" in problem

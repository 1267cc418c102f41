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

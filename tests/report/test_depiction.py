import base64

import pytest

from afmid.report.depiction import depict, formula_of


def test_a_molecule_is_drawn_for_light_and_for_dark_ground():
    depiction = depict("O=C1OC(=O)c2ccc3c4ccc5c6c(ccc(c7ccc1c2c73)c64)C(=O)OC5=O")
    light, dark = (base64.b64decode(uri.split(",")[1]).decode() for uri in (depiction.light, depiction.dark))
    assert light != dark
    assert all("<svg" in drawing and "</svg>" in drawing for drawing in (light, dark))


@pytest.mark.parametrize("smiles", [None, "", "no SMILES", "C" * 400, "<script>alert(1)</script>", "C\udcff"])
def test_what_is_no_molecule_or_too_large_is_not_drawn(smiles):
    assert depict(smiles) is None


def test_the_formula_of_what_is_no_molecule_is_empty():
    assert [formula_of(smiles) for smiles in ("C=O", "no SMILES", "C\udcff", None)] == ["CH2O", "", "", ""]

import pytest

from afmid.chem import flatness
from afmid.errors import DataError


@pytest.mark.parametrize(
    ("smiles", "share"),
    [
        ("c1ccccc1", 1),
        ("Cc1ccccc1", 1),
        ("c1ccc2ccccc2c1", 1),
        ("C1CCCCC1", 0),
        ("C", 0),
        ("CCCC=C", 3 / 5),  # the double bond and its neighbour
        ("c1ccccc1CCc1ccccc1", 7 / 14),
        ("CCCCc1ccccc1", 7 / 10),
        ("c1ccccc1.O", 6 / 7),
        ("C=CCCCCC(C)=C(C)C", 6 / 11),  # of two double bonds that with more neighbours …
        ("CC(C)=C(C)CCCCC=C", 6 / 11),  # … wherever the text begins
    ],
)
def test_flatness_is_the_share_of_the_largest_planar_unit(smiles, share):
    assert flatness(smiles) == pytest.approx(share)


def test_what_is_no_smiles_is_said():
    with pytest.raises(DataError, match="no valid SMILES"):
        flatness("nonsense")

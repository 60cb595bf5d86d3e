"""How alike molecules are."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rdkit import Chem
from rdkit.Chem import AllChem
from rdkit.DataStructs import TanimotoSimilarity

from afmid.chem import shared_elements, tanimoto
from afmid.errors import DataError

SMILES = ("c1ccccc1", "Cc1ccccc1", "CCO", "O=C(O)c1ccccc1")


def test_a_molecule_is_most_like_itself_however_it_is_written():
    similarities = tanimoto("C1=CC=CC=C1C", SMILES)
    assert similarities.argmax() == 1
    assert similarities[1] == 1
    assert (similarities >= 0).all()


def test_the_similarity_is_that_of_rdkits_morgan_fingerprints():
    def bits(smiles):
        return AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(smiles), 2, 2048)

    expected = [TanimotoSimilarity(bits(SMILES[1]), bits(smiles)) for smiles in SMILES]
    assert_allclose(tanimoto(SMILES[1], SMILES), expected)


def test_what_is_no_molecule_is_not_similar():
    assert tanimoto("CCO", ["no_smiles", "CCO"]).tolist() == [0, 1]
    with pytest.raises(DataError, match="no valid SMILES"):
        tanimoto("no_smiles", ["CCO"])


def test_elements_in_common_are_those_of_both_over_those_of_either():
    counts = np.array([[0, 4, 1], [0, 4, 1], [0, 6, 2], [0, 0, 0]])
    assert_allclose(shared_elements(counts[0], counts[1:]), [1, 5 / 8, 0])

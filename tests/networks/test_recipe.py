import subprocess
import sys
from typing import ClassVar, Literal

import pytest
from pydantic import ValidationError

from afmid.networks.recipe import PUBLISHED, StackRecipe


class Recipe(StackRecipe):
    defaults: ClassVar = {"old": PUBLISHED}
    architecture: Literal["new", "old"] = "new"


def test_an_architecture_brings_its_defaults_and_what_is_given_outweighs_them():
    assert (Recipe().optimizer, Recipe(architecture="old").optimizer) == ("muon", "adamw")
    assert Recipe(architecture="old", optimizer="muon").optimizer == "muon"
    assert Recipe(architecture="old").batch == PUBLISHED["batch"]


@pytest.mark.parametrize(
    ("simulation", "message"),
    [
        ({"tip": "Xe"}, "simulation.tip is Xe; the networks are made for CO"),
        ({"step": 0.2}, "simulation.step is 0.2; the networks are made for 0.1"),
        ({"heights": 3}, "simulation.heights is 3; the networks are made for 10"),
        ({"pixels": 100}, "100 pixels over 16 Å; the networks are made for pixels of 0.125 Å, a multiple of 16"),
        ({"size": 15.0, "pixels": 120}, "120 pixels over 15 Å"),
    ],
)
def test_a_grid_that_the_networks_do_not_see_is_refused_in_words(simulation, message):
    with pytest.raises(ValidationError, match=message):
        Recipe(simulation=simulation)


def test_listing_the_options_imports_no_torch():
    code = "import sys, afmid.networks.recipe; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

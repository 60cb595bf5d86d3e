import pytest

from afmid.errors import UsageError
from afmid.plugins import checked
from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import TIPS


def test_augmentations_have_a_short_form():
    assert augmentations("noise", "cutout:0.3") == (Step(name="noise"), Step(name="cutout", probability=0.3))
    assert str(augmentations("cutout:0.3")[0]) == "cutout:0.3"
    recipe = checked(Recipe, {"augment": ["flip", "noise:0.5", {"name": "blur", "options": {"sigma": 1.0}}]})
    assert [step.probability for step in recipe.augment] == [1, 0.5, 1]
    assert recipe.augment[2].options == {"sigma": 1.0}
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_the_second_tip_shares_the_grid_alone():
    recipe = checked(Recipe, {"second": "Xe", "simulation": {"pixels": 32, "f0": 25e3, "probe": "S", "length": 3.0}})
    second = recipe.second_simulation
    assert (second.pixels, second.f0) == (32, 25e3)
    assert second.effective_tip() == TIPS["Xe"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": ["noise:2"]}, "probability is '2'; it should be less than or equal to 1"),
        ({"simulation": {"lateral_stiffness": 0.3}}, "lateral_stiffness is drawn .*; set scenes.stiffness instead"),
        ({"simulation": {"amplitude": 1.0}}, "amplitude is drawn anew for each scan; set scenes.amplitude instead"),
        ({"simulation": {"tilt_x": 0.1}}, "set scenes.tilt instead"),
        ({"second": "CO"}, "CO is the first tip already"),
        ({"second": "Kr"}, "second is 'Kr'"),
    ],
)
def test_what_training_would_not_respect_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        checked(Recipe, settings)

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid_descriptor.atoms import FIGURES, UNFITTED, Fit
from afmid_descriptor.calibration import ONE, TWO, Calibration, read, written
from afmid_descriptor.maps import MAPS

REFUSED = (ValueError, TypeError, KeyError, AttributeError)  # which loading weights turns into words

numbers = st.floats(allow_nan=False, allow_infinity=False)
coefficients = st.fixed_dictionaries(dict.fromkeys(("constant", *FIGURES), numbers))
fits = st.builds(Fit, coefficients, coefficients)
spreads = st.dictionaries(st.sampled_from(list(MAPS)), numbers)
calibrations = st.builds(Calibration, st.none() | fits, spreads, st.none() | numbers)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from([ONE, TWO]), calibrations))
def test_what_is_written_is_read_again(settled):
    assert read(written(settled)) == settled


def test_nothing_settled_is_an_empty_calibration():
    assert read(written({ONE: Calibration()})) == {ONE: Calibration(fit=None, spread={}, tilt=None)}
    assert read("{}") == {}


WHOLE = Calibration(UNFITTED, {"height": 2.0}, 0.05).record()


def test_a_record_is_plain_json():
    assert json.loads(json.dumps(WHOLE)) == WHOLE
    assert WHOLE["fit"] == {"confidence": UNFITTED.confidence, "depth": UNFITTED.depth}
    assert (WHOLE["spread"], WHOLE["tilt"]) == ({"height": 2.0}, 0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {"fit": {"confidence": {"constant": 1}, "depth": {}}},
        {"fit": {"confidence": UNFITTED.confidence}},
        {"fit": [UNFITTED.confidence, UNFITTED.depth]},
        {"fit": {"confidence": {**UNFITTED.confidence, "peak": "high"}, "depth": UNFITTED.depth}},
        {"fit": {"confidence": {**UNFITTED.confidence, "peak": None}, "depth": UNFITTED.depth}},
        {"spread": [1, 2]},
        {"spread": {"height": None}},
        {"spread": {"height": "wide"}},
        {"spread": None},
        {"tilt": "small"},
        {"tilt": [0.1, 0.1]},
    ],
)
def test_a_damaged_record_is_not_read(changes):
    with pytest.raises(REFUSED):
        read(json.dumps({ONE: WHOLE, TWO: {**WHOLE, **changes}}))


@pytest.mark.parametrize("name", ["fit", "spread", "tilt"])
def test_a_record_that_lacks_something_is_not_read(name):
    with pytest.raises(KeyError, match=name):
        read(json.dumps({ONE: {key: value for key, value in WHOLE.items() if key != name}}))


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", "3", "null", '{"one": null}', '{"one": []}', '{"one": "fit"}'])
def test_something_else_is_not_read(text):
    with pytest.raises(REFUSED):
        read(text)

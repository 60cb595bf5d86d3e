from hypothesis import given, settings
from hypothesis import strategies as st

from afmid.report.facts import MOST, Fact, facts, number, plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=40)
@given(record=st.dictionaries(st.text(), JSON))
def test_any_record_becomes_printable_lines(record):
    found = facts(record)
    assert len(found) <= MOST
    assert all((fact.name + fact.value).isprintable() for fact in found)


def test_units_of_keys_go_to_the_values_and_inner_names_follow_outer_ones():
    record = {
        "height_angstrom": 3.25, "tip": {"lateral_stiffness_n_per_m": {"value": -0.25, "sigma": 0.01}, "name": "CO"},
        "converged": True, "none": None, "empty": [], "offset_angstrom": [0.0, 0.5], "steps": 12000,
    }  # fmt: skip
    assert facts(record) == [
        Fact("height", "3.25 Å"),
        Fact("tip · lateral stiffness", "−0.250 ± 0.010 N/m"),
        Fact("tip · name", "CO"),
        Fact("converged", "yes"),
        Fact("offset", "0, 0.5 Å"),
        Fact("steps", "12 000"),
    ]


def test_a_value_ends_at_the_second_digit_of_its_deviation():
    pairs = ((0.25, 8.299e-5), (-4e-9, 2.3e-4), (1234.56, 12.3), (1.0, 0.0))
    found = facts({str(i): {"value": value, "sigma": sigma} for i, (value, sigma) in enumerate(pairs)})
    assert [fact.value for fact in found] == ["0.250000 ± 0.000083", "0.00000 ± 0.00023", "1235 ± 12", "1 ± 0"]


def test_numbers_have_as_many_digits_as_tell_something():
    assert [number(value) for value in (0.123456, 30300.0, 1e-9, 7)] == ["0.1235", "30300", "1e−09", "7"]


def test_numbers_and_lists_without_measure_are_cut_short():
    assert number(-(10**4000)) == "−1e+4000"
    assert facts({"gain": {"value": 10**400, "sigma": 1.0}})[0].value == "1e+400 ± 1"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert plain(deep) == "…"
    assert facts({"deep": deep})[0].value == "…"


def test_of_a_long_list_of_records_the_number_is_told():
    assert facts({"elements": [{"C": 0.9}] * 40}) == [Fact("elements", "40 records, in result.json")]
    assert facts({"hidden": [{"atom_index": 3}]}) == [Fact("hidden 1 · atom index", "3")]

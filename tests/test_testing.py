"""The contract finds the methods that break it."""

import numpy as np
import pytest

from afmid import Atom, DataError, Identification, Identifier, Map, Scan
from afmid.testing import MethodContract, example_scan


class Flawed:
    """A method with one fault, or none."""

    def __init__(self, fault: str):
        self.fault = fault
        self.draws = iter(range(100))

    def identify(self, scans: list[Scan], options: object, prefix: object = None) -> Identification:
        (scan,) = scans
        if scan.df.size < 1000 and self.fault != "answers anything":
            raise DataError("too\nsmall" if self.fault == "two lines" else "too small")
        if self.fault == "spoils the scan":
            scan.df[:] = 0
        return Identification(
            method="another" if self.fault == "another name" else "flawed",
            version="1",
            x=scan.x + (1 if self.fault == "another frame" else 0),
            y=scan.y,
            smiles="C(C" if self.fault == "no molecule" else "CC",
            atoms=(Atom("Zz" if self.fault == "no element" else "C", 0, 0, 3 if self.fault == "too high" else 0, 0.5),),
            maps={"noise": Map(np.full(scan.df.shape[:2], next(self.draws) if self.fault == "restless" else 0), "Å")},
        )


BREAKS = {
    "spoils the scan": "test_it_answers_in_the_frame_of_the_scan_and_leaves_the_scan_alone",
    "another name": "test_it_answers_in_the_frame_of_the_scan_and_leaves_the_scan_alone",
    "another frame": "test_it_answers_in_the_frame_of_the_scan_and_leaves_the_scan_alone",
    "restless": "test_it_repeats_itself",
    "no element": "test_what_it_answers_lies_in_range",
    "too high": "test_what_it_answers_lies_in_range",
    "no molecule": "test_the_molecules_it_names_are_valid",
    "answers anything": "test_a_scan_it_cannot_use_is_refused_in_one_line",
    "two lines": "test_a_scan_it_cannot_use_is_refused_in_one_line",
}


def _contract(fault: str) -> MethodContract:
    flawed = Flawed(fault)
    contract = MethodContract()
    contract.method = Identifier(name="flawed", summary="Has a fault.", load=lambda weights, device: flawed)
    scan = example_scan()
    kept = {name: getattr(scan, name).copy() for name in ("df", "x", "y", "z")}
    contract.scan = lambda: Scan(**kept)  # type: ignore[method-assign]
    return contract


@pytest.mark.parametrize("fault", BREAKS)
def test_the_contract_finds_a(fault: str) -> None:
    with pytest.raises((AssertionError, DataError, pytest.fail.Exception)):
        getattr(_contract(fault), BREAKS[fault])()


class TestFlawless(MethodContract):
    method = Identifier(name="flawed", summary="Has no fault.", load=lambda weights, device: Flawed("none"))

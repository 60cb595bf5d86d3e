"""The contract tests that a plugin's own tests inherit.

from afmid.testing import MethodContract

class TestFingerprint(MethodContract):
    method = METHOD
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from afmid.errors import AfmidError
from afmid.identification import Identification
from afmid.io import read_molecule, to_json
from afmid.molecule import SYMBOLS
from afmid.offers import Identifier, Method
from afmid.scan import Scan
from afmid.simulate import SimulationOptions, load_engine, simulate
from afmid.weights import default


@cache
def example_scan(smiles: str = "c1ccc2ccccc2c1") -> Scan:
    """Return a simulated scan of 128 × 128 pixels and 10 images, as `afmid simulate` makes it."""
    return next(simulate([read_molecule(smiles)], SimulationOptions(), load_engine(device="cpu")[1]))


class MethodContract:
    """What every identification method keeps to. Inherit it, and set `method`; pytest does the rest.

    Attributes:
        method: the offer under test.
        weights: a safetensors file; by default the one that bears the method's name in its weights.toml.
    """

    method: Identifier
    weights: Path | None = None

    def scan(self) -> Scan:
        """Return a scan that the method must answer."""
        return example_scan()

    def wrong_scan(self) -> Scan:
        """Return a scan that the method must refuse: a single image of 4 × 4 pixels."""
        scan = self.scan()
        return replace(scan, df=scan.df[:4, :4, :1], x=scan.x[:4], y=scan.y[:4], z=scan.z[:1])

    def answer(self, scan: Scan) -> Identification:
        """Return the answer to a scan, with the method's default options, computed on the CPU."""
        method = _loaded(self.method, self.weights)
        return method.identify([scan], self.method.options())

    def test_every_option_has_a_default_and_a_description(self) -> None:
        self.method.options()
        assert all(field.description for field in self.method.options.model_fields.values())

    def test_it_answers_in_the_frame_of_the_scan_and_leaves_the_scan_alone(self) -> None:
        scan = self.scan()
        before = scan.df.copy()
        answer = self.answer(scan)
        assert np.array_equal(scan.df, before)
        assert answer.method == self.method.name
        assert np.array_equal(answer.x, scan.x)
        assert np.array_equal(answer.y, scan.y)

    def test_it_repeats_itself(self) -> None:
        first, second = self.answer(self.scan()), self.answer(self.scan())
        assert to_json(first) == to_json(second)
        assert all(np.array_equal(image.values, second.maps[name].values) for name, image in first.maps.items())

    def test_what_it_answers_lies_in_range(self) -> None:
        scan = self.scan()
        answer = self.answer(scan)
        for atom in answer.atoms:
            assert atom.element is None or atom.element in SYMBOLS[1:]
            assert scan.x[0] - 1 <= atom.x <= scan.x[-1] + 1
            assert scan.y[0] - 1 <= atom.y <= scan.y[-1] + 1
            assert atom.z <= 1e-6, "heights count from the topmost atom"
        assert all(np.isfinite(image.values).all() for image in answer.maps.values())
        scores = [candidate.score for candidate in answer.candidates]
        assert scores == sorted(scores, reverse=True), "the best candidate comes first"

    def test_the_molecules_it_names_are_valid(self) -> None:
        from afmid.chem import inchikey

        answer = self.answer(self.scan())
        named = [candidate.smiles for candidate in answer.candidates] + ([answer.smiles] if answer.smiles else [])
        assert all(inchikey(smiles) for smiles in named)

    def test_a_scan_it_cannot_use_is_refused_in_one_line(self) -> None:
        with pytest.raises(AfmidError) as caught:
            self.answer(self.wrong_scan())
        assert len(str(caught.value).splitlines()) == 1


@cache
def _loaded(method: Identifier, weights: Path | None) -> Method:
    entry = None if weights else default(method)
    return method.load(entry.shipped if entry else weights, "cpu")

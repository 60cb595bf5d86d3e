from dataclasses import replace

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.evaluate.figures import Share
from afmid.evaluate.jury import Jury
from afmid.evaluate.metrics import molecule
from afmid.evaluate.suites import Sample
from afmid.identification import Identification
from afmid.molecule import Molecule
from afmid.offers import Identifier, Metric
from afmid.scan import Scan

BARE = Molecule(numbers=[8, 1, 1], positions=[[0, 0, 2], [0.76, 0, 1.41], [-0.76, 0, 1.41]])
SCAN = Scan(np.zeros((2, 2, 2)), np.arange(2.0), np.arange(2.0), np.array([1.0, 0.0]), truth=BARE)
SAMPLE = Sample("a", SCAN, BARE, {"source": "muv"}, "0" * 64)
ANSWER = Identification("m", "1", SCAN.x, SCAN.y, smiles="O")


def metric(name: str, figure: str, **of):
    score = {figure: Share(1, 2)}
    return Metric(name=name, summary="", load=lambda: lambda *_: score, **of), lambda *_: score


def identifier(*gives: str) -> Identifier:
    return Identifier(name="m", summary="", load=lambda *_: None, gives=gives)


@pytest.mark.parametrize(
    ("gives", "judged"), [((), {"x", "y"}), (("maps",), {"x"}), (("atoms", "bonds"), {"x", "y"})]
)
def test_a_method_is_judged_by_what_it_gives(gives, judged):
    jury = Jury([metric("one", "x"), metric("two", "y", needs=("bonds",))])
    assert jury.record(identifier(*gives), ANSWER, SAMPLE, BARE, 0.1).figures.keys() == judged


def test_the_headline_is_what_metrics_name_and_all_figures_of_one_that_names_none():
    jury = Jury([metric("one", "x", headline=("x_best", "x_worst")), metric("two", "y")])
    assert jury.headline == ()
    jury.record(identifier(), ANSWER, SAMPLE, BARE, 0.1)
    assert jury.headline == ("x_best", "x_worst", "y")


def test_a_metric_is_not_asked_about_what_the_method_does_not_give():
    def score(answer, truth):
        return {"x": answer.maps["height"].values.mean()}

    jury = Jury([(Metric(name="maps", summary="", load=lambda: score, needs=("maps",)), score)])
    assert jury.record(identifier("atoms"), ANSWER, SAMPLE, BARE, 0.1).figures == {}


def test_a_truth_that_cannot_be_judged_on_is_named():
    wrong = replace(BARE, smiles="C1CC")
    with pytest.raises(DataError, match=r"^a: .*no valid SMILES"):
        Jury([(Metric(name="molecule", summary="", load=lambda: molecule), molecule)]).record(
            identifier(), ANSWER, SAMPLE, wrong, 0.1
        )


def test_a_record_keeps_truth_groups_and_what_was_said():
    record = Jury([]).record(identifier(), ANSWER, SAMPLE, BARE, 0.1)
    assert record.truth.positions[:, 2].max() == 0
    assert record.groups == {"corrugation": "< 50 pm", "atoms": "1–15", "source": "muv"}
    assert (record.scan, record.method, record.smiles, record.seconds) == ("a", "m", "O", 0.1)


@pytest.mark.parametrize("name", ["bonds", "confidence"])
def test_bonds_that_a_set_does_not_bring_are_perceived_for_their_metrics(name):
    assert len(Jury([metric(name, "x")]).truth(SAMPLE).bonds) == 2
    assert len(Jury([metric("atoms", "x")]).truth(SAMPLE).bonds) == 0

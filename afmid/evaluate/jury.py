"""A jury: metrics that judge the answers of several methods, each by what the method gives."""

from collections.abc import Sequence

from afmid.errors import DataError
from afmid.evaluate import evaluate
from afmid.evaluate.bins import groups_of
from afmid.evaluate.figures import summarise
from afmid.evaluate.records import Record, thumbnail, window_of
from afmid.evaluate.suites import Sample
from afmid.identification import Identification
from afmid.molecule import Molecule
from afmid.offers import Identifier, Metric, Score

OF_BONDS = {"bonds", "confidence"}  # the metrics that ask for those of the truth


class Jury:
    """Metrics, loaded."""

    def __init__(self, scores: Sequence[tuple[Metric, Score]]) -> None:
        self._scores = scores
        self._headline: list[str] = []

    @property
    def headline(self) -> tuple[str, ...]:
        """The figures that a short table shows; of a metric that names none all that the first answer had."""
        return tuple(self._headline)

    def truth(self, sample: Sample) -> Molecule:
        """Return the true molecule; bonds that it does not name are perceived where a metric asks for them."""
        truth = sample.truth
        if len(truth.bonds) or not any(metric.name in OF_BONDS for metric, _ in self._scores):
            return truth
        from afmid.chem import perceive_bonds

        return perceive_bonds(truth)

    def record(
        self, identifier: Identifier, answer: Identification, sample: Sample, truth: Molecule, seconds: float
    ) -> Record:
        """Return what is to be kept of a method's answer, and how right it is.

        Raises:
            DataError: the truth cannot be judged on; the message names the scan.
            PluginError: metrics that give the same figure, or one that is no number.
        """
        applying = self._applying(identifier)
        try:
            figures = evaluate(answer, truth, applying)
        except DataError as error:
            raise DataError(f"{sample.name}: {error}") from error
        if not self._headline:
            for metric, score in self._scores:
                own = {metric.name: score} if metric.name in applying else {}
                self._headline += metric.headline or summarise([evaluate(answer, truth, own)])
        return Record(
            scan=sample.name,
            method=identifier.name,
            data_sha256=sample.sha256,
            seconds=seconds,
            groups={**groups_of(truth), **sample.groups},
            figures=figures,
            smiles=answer.smiles,
            truth=truth.topmost_at_zero(),
            atoms=answer.atoms,
            window=window_of(sample.scan),
            image=thumbnail(sample.scan),
        )

    def _applying(self, identifier: Identifier) -> dict[str, Score]:
        """Return the scores of what a method gives; all where it does not say."""
        gives = set(identifier.gives)
        return {metric.name: score for metric, score in self._scores if not gives or gives >= set(metric.needs)}

"""`afmid report`: one self-contained page of an answer or of an evaluation, to look at offline and to send on."""

from pathlib import Path
from typing import TYPE_CHECKING

from afmid.identification import Identification
from afmid.io.stream import write_bytes
from afmid.scan import Scan

if TYPE_CHECKING:
    from afmid.evaluate.records import Evaluation


def write_identification_page(
    scan: Scan | None, answer: Identification, path: Path | str, second: Scan | None = None
) -> None:
    """Write the page of an answer, whole or not at all; "-" is stdout.

    Args:
        scan: that was identified; without it the page shows no stack.
        answer: what was said of it.
        path: of the page.
        second: what another tip showed of the same place, if the answer comes from two scans.

    Raises:
        DataError: the scan has another window than the answer, or the place cannot be written to.
    """
    from afmid.report.identification_view import identification_page

    write_bytes(identification_page(scan, answer, second).encode(), path)


def write_evaluation_page(evaluation: "Evaluation", path: Path | str) -> None:
    """Write the page of an evaluation, whole or not at all; "-" is stdout. Raises DataError where it cannot."""
    from afmid.report.evaluation_view import evaluation_page

    write_bytes(evaluation_page(evaluation).encode(), path)

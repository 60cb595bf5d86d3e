"""`afmid report`: pages of answers and evaluations."""

import json
import re
import shutil
from pathlib import Path

import pytest

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def answer(afmid, stranger, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `afmid identify`, beside the scan that it names."""
    folder = tmp_path_factory.mktemp("answer")
    shutil.copy(scan, folder / "benzene.npz")
    done = afmid("identify", "benzene.npz", "-m", "brightest", "-o", "out/", *CPU, cwd=folder, **stranger)
    assert done.returncode == 0
    return folder


@pytest.mark.parametrize("result", ["out", "out/result.json", "out/maps.npz"])
def test_a_result_becomes_a_page_with_its_maps_and_its_scan(afmid, answer: Path, tmp_path: Path, result: str) -> None:
    done = afmid("report", result, "-o", tmp_path / "new" / "page.html", cwd=answer)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    page = (tmp_path / "new" / "page.html").read_text()
    assert "map nearest" in page
    assert len(re.findall("data-image=", page)) == 2
    assert "Content-Security-Policy" in page


def test_a_page_goes_to_stdout_and_an_answer_comes_from_stdin(afmid, answer: Path) -> None:
    content = (answer / "out" / "result.json").read_bytes()
    done = afmid("report", "-", "--scan", "benzene.npz", "-o", "-", stdin=content, cwd=answer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"<!doctype html>")
    assert done.stdout.count(b"data-image=") == 2


def test_a_scan_that_is_gone_is_left_out_with_a_word(afmid, answer: Path, tmp_path: Path) -> None:
    shutil.copytree(answer / "out", tmp_path / "out")
    done = afmid("report", "out", "-o", "page.html", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1
    assert b"give --scan FILE" in done.stderr
    assert "data-image=" not in (tmp_path / "page.html").read_text()


def test_maps_of_another_answer_are_left_out(afmid, answer: Path, tmp_path: Path) -> None:
    shutil.copytree(answer, tmp_path / "changed")
    file = tmp_path / "changed" / "out" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fit": 0.123}))
    assert afmid("report", "out/result.json", "-o", "page.html", cwd=tmp_path / "changed").returncode == 0
    page = (tmp_path / "changed" / "page.html").read_text()
    assert "0.123" in page
    assert "map nearest" not in page


def test_an_evaluation_becomes_a_page(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    done = afmid("evaluate", scan, "-m", "brightest", "-o", tmp_path / "out", *CPU, **stranger)
    assert done.returncode == 0
    for number, result in enumerate((tmp_path / "out", tmp_path / "out" / "records.jsonl")):
        page = tmp_path / f"{number}.html"
        assert afmid("report", result, "-o", page).returncode == 0
        assert "afmid · evaluation" in page.read_text()


def test_an_existing_page_is_overwritten_only_by_force(afmid, answer: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    done = afmid("report", "out", "-o", page, cwd=answer)
    assert (done.returncode, page.read_text()) == (1, "mine")
    assert done.stderr == f"afmid: {page}: exists; give --force to write over it\n".encode()
    assert afmid("report", "out", "-o", page, "--force", cwd=answer).returncode == 0
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.json", "-o", "page.html"), 1, "missing.json: no such file"),
        (("out", "-o", "page.txt"), 2, "page.txt: a page's name must end in .html"),
        (("out", "-o", "page.html", "--scan", "missing.npz"), 1, "missing.npz: no such file"),
        (("out", "-o", "page.html", "--scan", "out/maps.npz"), 1, "maps.npz"),
        ((".", "-o", "page.html"), 1, ".: holds neither maps.npz nor result.json, nor an evaluation"),
        (("benzene.npz", "-o", "page.html"), 1, "benzene.npz: "),
        (("bad.jsonl", "-o", "page.html"), 1, "bad.jsonl: line 1: "),
    ],
)
def test_what_makes_no_page_is_one_line_and_nothing_is_written(
    afmid, answer: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (answer / "bad.jsonl").write_text('{"schema": "afmid.evaluation/1", "nonsense": 1}\n')
    done = afmid("report", *arguments, cwd=answer)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"afmid: ")
    assert done.stderr.count(b"\n") == 1
    assert words in done.stderr.decode()
    assert not (answer / "page.html").exists()


def test_hostile_words_of_a_result_stay_words(afmid, answer: Path, tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"
    record = json.loads((answer / "out" / "result.json").read_text())
    record |= {"method": hostile, "source": hostile, "smiles": hostile}
    record["meta"] = {hostile: hostile, "scan": "\0" + hostile * 30}
    record["atoms"][0]["element"] = hostile
    (tmp_path / f"{hostile.replace('/', '')}.json").write_text(json.dumps(record))
    done = afmid("report", next(tmp_path.iterdir()), "-o", tmp_path / "page.html")
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1
    assert "<script>alert" not in (tmp_path / "page.html").read_text()

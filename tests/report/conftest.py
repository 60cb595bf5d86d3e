"""What the tests of pages share: an answer with everything in it, an evaluation, and a browser."""

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afmid.evaluate.figures import Calls, Confusion, Samples, Share
from afmid.evaluate.records import Evaluation, Header, JudgedMethod, LeftOut, Record, thumbnail, window_of
from afmid.identification import Atom, Bond, Candidate, Identification, Map
from afmid.molecule import Molecule
from afmid.scan import ABOVE_ATOM, Scan

FORMALDEHYDE = Molecule(
    numbers=np.array([6, 8, 1, 1]),
    positions=np.array([[1.0, 2.0, 0], [1.0, 3.2, 0], [0.1, 1.4, -0.2], [1.9, 1.4, -0.2]]),
    bonds=np.array([[0, 1], [0, 2], [0, 3]]),
    orders=np.array([2.0, 1, 1]),
    name="formaldehyde",
    smiles="C=O",
)


def make_scan(text: str = "") -> Scan:
    """Return a scan of formaldehyde, its carbon alone bright, its words all `text` where that is given."""
    x, y = np.arange(40) * 0.25 - 4.0, np.arange(32) * 0.25 - 3.0
    image = np.exp(-((x[:, None] - 1.0) ** 2 + (y - 2.0) ** 2) / 0.3)
    truth = Molecule(FORMALDEHYDE.numbers, FORMALDEHYDE.positions, name=text or "formaldehyde", smiles=text or "C=O")
    return Scan(
        df=image[:, :, None] * np.linspace(1, 3, 5),
        x=x,
        y=y,
        z=3.5 - 0.1 * np.arange(5),
        z_reference=ABOVE_ATOM,
        tip=text or "CO",
        amplitude=0.5,
        source=text or "simulated from formaldehyde",
        meta={text or "setting": {text or "inner": [text or "word", 1, None]}},
        truth=truth,
    )


def make_answer(scan: Scan, text: str = "", **changes: Any) -> Identification:
    """Return an answer with everything in it, its words all `text` where that is given."""
    places = FORMALDEHYDE.positions.tolist()
    atoms = tuple(
        Atom(text or symbol, *place, confidence=0.6 + 0.1 * i, sigma=(0.01, 0.02, 0.03))
        for i, (symbol, place) in enumerate(zip(FORMALDEHYDE.symbols, places, strict=True))
    )
    image = np.hypot(*np.meshgrid(scan.x, scan.y, indexing="ij")).astype(np.float32)
    scores = {text or "fit": 0.9, f"{text}2": 0.5}
    named = replace(FORMALDEHYDE, name=text or "methanal")
    known = {
        "weights": text or "ab" * 32,
        "source": scan.source,
        "smiles": text or "C=O",
        "atoms": atoms,
        "bonds": (Bond(0, 1, 2, 0.9), Bond(0, 2, 1, 0.8), Bond(0, 3, 1, 0.7)),
        "maps": {text or "disks": Map(image, text or "Å"), f"{text}2": Map(image - 3, "1")},
        "candidates": (
            Candidate(text or "C=O", text or "WSFSSNUMVMOOMR-UHFFFAOYSA-N", text or "CH2O", 0.9, scores, named),
            Candidate(text or "CO", text or "OKKJLVBELUTLKV-UHFFFAOYSA-N", text or "CH4O", 0.5, {text or "fit": 0.5}),
        ),
        "fit": 0.97,
        "meta": {
            "scan": text or "scan.npz",
            "options": {text or "threshold": text or 0.3},
            "candidates": {"pool": 1000},
            "refinement": {
                "fit_after": 0.97,
                "rms_after_hz": 0.12,
                "tip": {text or "lateral_stiffness_n_per_m": {"value": 0.25, "sigma": 0.01}},
                "atoms": [{"element": text or "C", "x_angstrom": 1.0, "supported": False}],
                "swaps": [{"changes": [{"atom": 2, "from": text or "H", "to": "F"}], "chi2_gain": 7.0}],
            },
        },
    }
    return Identification(text or "everything", text or "1.0", scan.x, scan.y, **(known | changes))


def make_evaluation(text: str = "", scans: int = 4) -> Evaluation:
    """Return an evaluation of two methods, its words all `text` where that is given."""
    scan = make_scan(text)
    rng = np.random.default_rng(0)

    def record(number: int, method: str) -> Record:
        right = int(rng.integers(1, 4))
        figures = {
            "atoms_visible_precision_within_35_pm": Share(right, 4),
            "atoms_visible_recall_within_35_pm": Share(right, 4),
            "atoms_visible_error_xy": Samples(rng.uniform(0, 0.3, right), "angstrom"),
            "confidence_atoms": Calls(rng.uniform(size=4), rng.uniform(size=4) < 0.5),
            "elements_visible_confusion": Confusion({(text or "C", text or "O"): 3, ("C", "C"): 5}),
            "depth_0_to_20_pm_recall": Share(right, 3),
            "depth_over_80_pm_recall": Share(1, 2),
        }
        groups = {
            "corrugation": ("< 50 pm", "> 150 pm")[number % 2],
            "atoms": "1–15",
            "perturbation": ("as it is", text or "noise")[number % 2],
        }
        return Record(
            f"{text or 'scan'} {number}", method, "0" * 63 + str(number), 0.1, groups, figures, text or "C=O",
            scan.truth, make_answer(scan, text).atoms, window_of(scan), thumbnail(scan),
        )  # fmt: skip

    methods = (text or "first", "second")
    headline = ("atoms_visible_recall_within_35_pm", "atoms_visible_error_xy_mean_angstrom")
    judged = {name: JudgedMethod(text or "1.0", text, {text or "threshold": text or 0.3}) for name in methods}
    return Evaluation(
        Header(text or "0.1.0", text or "suite", judged, headline),
        tuple(record(number, method) for number in range(scans) for method in methods),
        (LeftOut(text or "bad.npz", text or "is empty", methods[0]),),
    )


@pytest.fixture(scope="session")
def scan_of() -> Callable[..., Scan]:
    return make_scan


@pytest.fixture(scope="session")
def answer_to() -> Callable[..., Identification]:
    return make_answer


@pytest.fixture(scope="session")
def evaluation_of() -> Callable[..., Evaluation]:
    return make_evaluation


class Browser:
    """Headless Chromium, and what it has said and asked for since a page was opened."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        self.complaints(), self.requests()  # those of the page before
        self.driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def element(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def press(self, selector: str, key: str) -> None:
        """Press a key, such as "ARROW_LEFT", in an element."""
        from selenium.webdriver.common.keys import Keys

        self.element(selector).send_keys(getattr(Keys, key))

    def complaints(self) -> list[str]:
        """Return what the console says; the driver's own words on how fast it draws are none."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["source"] != "rendering"]

    def requests(self) -> list[str]:
        """Return what was asked for, the page itself and what stands in it aside."""
        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [item["params"]["request"]["url"] for item in sent if item["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:") and url != self.driver.current_url]

    def pixels(self, selector: str) -> np.ndarray:
        """Return what an element looks like, (rows, columns, 3)."""
        element = self.element(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"))

    def wait(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "the page does not come to it"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    driver_program = shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("Chromium and its chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    flags = (
        "--headless=new --no-sandbox --disable-gpu --use-angle=swiftshader --enable-unsafe-swiftshader "
        "--disable-background-networking --hide-scrollbars --window-size=1280,900"
    )
    for flag in flags.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.chrome.service.Service(driver_program)
    driver = webdriver.Chrome(options=options, service=service)
    yield Browser(driver)
    driver.quit()

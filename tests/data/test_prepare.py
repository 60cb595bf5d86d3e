import json
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from contextlib import nullcontext
from itertools import islice

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError
from rdkit import Chem

from afmid.chem import embed, find_named, geometry, inchikey
from afmid.data import prepare as module
from afmid.data.pack import write_pack
from afmid.data.parts import Parts
from afmid.data.prepare import NothingMadeError, PrepareOptions, prepare, split_of
from afmid.data.rows import Row, read_rows, select
from afmid.errors import DataError
from afmid.io import sdf_file, xyz_file

ROWS = [
    Row("CCO", "a", "train"),
    Row("c1ccccc1", "a", "test"),
    Row("not a smiles", "a"),
    Row("OCC", "b"),
    Row("[Fe]", "b"),
    Row("[C@@H]12CC[C@H](CC1)C2", "b"),  # norbornane with one bridgehead inside out
    Row("C" * 150, "b"),
    Row("CC(=O)O", "b", "afm", title="vinegar"),
]


CHAINS = [Row("C" * n + "O", "chains") for n in range(1, 13)]


DRAWING = """ethanol
     RDKit          2D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.2990    0.7500    0.0000 C   0  0
    2.5981   -0.0000    0.0000 O   0  0
  1  2  1  0
  2  3  1  0
M  END
$$$$
"""


def last(rows, jobs=1, timeout_s=60.0, scheduler="", folder=None, fresh=False, **options):
    settings = {"jobs": jobs, "timeout_s": timeout_s, "scheduler": scheduler}
    with Parts(folder, fresh) if folder else nullcontext() as parts:
        *_, progress = prepare(rows, PrepareOptions(**options), parts=parts, **settings)
    return progress


def content(pack, folder):
    write_pack(pack, folder / "a.npz")
    return (folder / "a.npz").read_bytes()


def test_a_list_becomes_a_pack_in_its_order_with_failures_counted_and_logged(caplog):
    with caplog.at_level(logging.INFO):
        progress = last(ROWS, seed=1)
    pack = progress.pack
    assert pack.smiles == ("CCO", "c1ccccc1", "CC(=O)O")
    assert pack.source == ("a", "a", "b")
    assert pack.name == ("", "", "vinegar")
    assert pack.split == ("train", "test", "afm")
    assert progress.done == len(ROWS)
    assert progress.failed == {"smiles": 1, "duplicate": 1, "element": 1, "geometry": 1, "size": 1}
    assert pack.meta["failed"] == progress.failed
    assert pack.meta["seed"] == 1
    assert "row 3, not a smiles: left out: 'not a smiles' is no valid SMILES" in caplog.text


def test_each_failure_is_listed_with_its_row_and_reason():
    progress = last(ROWS)
    assert [(f.row, f.smiles, f.reason) for f in progress.failures] == [
        (3, "not a smiles", "smiles"),
        (4, "OCC", "duplicate"),
        (5, "[Fe]", "element"),
        (6, "[C@@H]12CC[C@H](CC1)C2", "geometry"),
        (7, "C" * 150, "size"),
    ]
    assert progress.failures[1].detail == "is row 1 again, with the InChIKey LFQSCWFLJHTTHZ-UHFFFAOYSA-N"


def test_several_processes_and_a_cluster_give_the_same_bytes_as_one(cluster, tmp_path):
    one = content(last(ROWS, seed=5).pack, tmp_path)
    assert content(last(ROWS, seed=5, jobs=2).pack, tmp_path) == one
    assert content(last(ROWS, seed=5, scheduler=cluster.scheduler_address).pack, tmp_path) == one
    assert last(ROWS, seed=6).pack.sha256 != last(ROWS, seed=5).pack.sha256


def test_a_worker_killed_halfway_changes_nothing(mortal_cluster, tmp_path, monkeypatch):
    rows = [Row("C" * n + "O" + "C" * m) for n in range(1, 9) for m in range(n, 9)]
    monkeypatch.setattr(module, "CLUSTER_ROWS", 2)
    monkeypatch.setattr(module, "REPORT_EVERY", 1)
    steps = prepare(rows, scheduler=mortal_cluster.scheduler_address)
    next(islice(steps, 5, None))
    os.kill(next(iter(mortal_cluster.workers.values())).pid, signal.SIGKILL)
    *_, progress = steps
    assert progress.failed == {}
    assert content(progress.pack, tmp_path) == content(last(rows).pack, tmp_path)


def test_what_was_finished_before_a_stop_is_not_made_again_and_the_bytes_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 4)
    monkeypatch.setattr(module, "REPORT_EVERY", 1)
    rows = [*CHAINS, Row("CO"), Row("nothing")]
    undisturbed = last(rows, folder=tmp_path / "parts")
    assert content(undisturbed.pack, tmp_path) == content(last(rows).pack, tmp_path)
    (tmp_path / "parts" / "part-000002.npz").unlink()
    (tmp_path / "parts" / "part-000001.npz").write_bytes(b"PK damaged")
    with Parts(tmp_path / "parts") as parts:
        first, *_, again = prepare(rows, parts=parts)
        parts.clear()
    assert not (tmp_path / "parts").exists()
    assert (first.done, first.before, again.before) == (6, 6, 6)
    assert content(again.pack, tmp_path) == content(undisturbed.pack, tmp_path)
    assert again.failures == undisturbed.failures


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (CHAINS[:4], {}, "other rows, rows_sha256"),
        (CHAINS[1:] + CHAINS[:1], {}, "other rows_sha256"),
        (CHAINS, {"seed": 1}, "other options"),
    ],
)
def test_parts_of_another_job_are_never_mixed_in(rows, options, says, tmp_path):
    last(CHAINS, folder=tmp_path)
    with pytest.raises(DataError, match=rf"holds parts of another job \({says}\); give .* or --force"):
        last(rows, folder=tmp_path, **options)
    fresh = last(rows, folder=tmp_path, fresh=True, **options)
    assert fresh.before == 0
    assert fresh.pack.sha256 == last(rows, **options).pack.sha256


@pytest.mark.parametrize("job", ["[]", "{", '{"afmid": "0"}'])
def test_a_folder_of_unknown_parts_is_left_alone(job, tmp_path):
    (tmp_path / "job.json").write_text(job)
    with pytest.raises(DataError, match="parts of another job"):
        last(CHAINS, folder=tmp_path)
    assert (tmp_path / "job.json").read_text() == job
    (tmp_path / "mine.txt").write_text("")
    with Parts(tmp_path) as parts:
        parts.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_is_one_runs_alone_from_its_start_and_goes_where_nothing_was_made(tmp_path):
    folder = tmp_path / "parts"
    with Parts(folder) as parts:
        parts.begin({"rows": 1})
        assert json.loads((folder / "job.json").read_text()) == {"rows": 1}
        with pytest.raises(DataError, match=r"parts: another process is writing it; wait for that, or end it$"):
            Parts(folder)
    assert not folder.exists()
    last(CHAINS[:1], folder=folder)
    assert {path.name for path in folder.iterdir()} == {"job.json", "part-000000.npz"}


def test_about_the_share_asked_for_is_pressed_whatever_else_is_in_the_list():
    pack = last(CHAINS, conformers=4, press=0.5).pack
    assert 12 < pack.pressed.sum() < 36
    alone = last(CHAINS[7:8], conformers=4, press=0.5).pack
    assert pack.taken([7]).sha256 == alone.sha256
    assert not last(CHAINS[:3], press=0).pack.pressed.any()
    assert last(CHAINS[:3], press=1).pack.pressed.all()


def test_geometries_that_are_given_are_kept_and_drawings_are_placed(tmp_path):
    given = embed("CC(=O)c1ccccc1", name="acetophenone").moved((1.0, 2.0, 3.0))
    (tmp_path / "a.xyz").write_text(xyz_file.to_text(given))
    (tmp_path / "b.sdf").write_text(sdf_file.to_text(embed("C[C@H](N)C(=O)O")) + DRAWING)
    progress = last(list(read_rows([str(tmp_path)])), conformers=2, press=1)
    pack = progress.pack
    assert [inchikey(smiles) for smiles in pack.smiles] == [
        inchikey(smiles) for smiles in ("CC(=O)c1ccccc1", "C[C@H](N)C(=O)O", "CCO")
    ]
    assert pack.name == ("acetophenone", "", "ethanol")  # an sdf file that names none has the SMILES there
    assert pack.molecule_index.tolist() == [0, 1, 2, 2]
    assert pack.pressed.tolist() == [0, 0, 1, 1]
    assert set(pack.source) == {tmp_path.name}
    kept = pack.molecule(0)
    assert_allclose(kept.positions, given.positions - given.positions.mean(0), atol=0.001)
    assert_allclose(kept.charges, given.charges, atol=0.0001)
    assert np.ptp(pack.molecule(2).positions, axis=0).min() > 0.5


def test_geometries_that_are_damaged_or_unclear_fail_alone_and_are_named(tmp_path):
    water = "3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
    texts = {"a": water, "b": water[:-20], "c": "many\n\n", "d": "1\n\nC 0 0 0\n", "e": ""}
    for name, text in texts.items():
        (tmp_path / f"{name}.xyz").write_text(text)
    (tmp_path / "f.sdf").write_text("junk\n$$$$\n" + DRAWING.replace("  1  2  1  0", "  1  2 61  0"))
    progress = last(list(read_rows([str(tmp_path)])))
    assert progress.pack.smiles == ("O",)
    assert progress.failed == {"file": 6}
    details = [failure.detail for failure in progress.failures]
    assert details[0].startswith("b.xyz: says 3 atoms")
    assert details[2].startswith("d.xyz: its bonds are unclear")


def test_elements_and_sizes_are_limited_as_asked():
    rows = [Row("CCO"), Row("CC"), Row("CCC"), Row("C")]
    progress = last(rows, elements="c, h", max_atoms=8)
    assert progress.pack.smiles == ("CC", "C")
    assert [(f.reason, f.detail) for f in progress.failures] == [
        ("element", "O is not among the elements H,C"),
        ("size", "has 11 atoms, more than 8"),
    ]
    with pytest.raises(ValidationError, match="there is no element 'Xy'"):
        PrepareOptions(elements="H,Xy")


@pytest.mark.parametrize("name", ["chain.sdf", "chain.xyz"])
def test_a_molecule_that_says_it_is_too_large_is_not_read(name, tmp_path):
    mol = Chem.MolFromSmiles("C" * 18_000)
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    xyz = "18000\n\n" + "".join(f"C {i} 0 0\n" for i in range(18_000))
    (tmp_path / name).write_text(Chem.MolToV3KMolBlock(mol) if name.endswith("sdf") else xyz)
    rows = [Row("C"), *read_rows([str(tmp_path)])]
    begin = time.perf_counter()
    (failure,) = last(rows, max_atoms=9).failures
    assert (failure.reason, failure.detail) == ("size", f"{name}: has 18000 atoms, more than 9")
    select(rows, 1, flat_first=True)
    assert time.perf_counter() - begin < 5


def test_what_cannot_be_pressed_is_free_and_called_so(monkeypatch):
    monkeypatch.setattr(geometry, "PRESS_FORCE", 0.0)  # which no minimiser reaches
    assert last(CHAINS[:4], press=1).pack.sha256 == last(CHAINS[:4], press=0).pack.sha256


L_ALANINE, D_ALANINE = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"


@pytest.mark.parametrize(
    ("rows", "splits"),
    [
        ([Row("CCO", "", "train"), Row("OCC", "", "test")], ["test"]),
        ([Row("CCO", "", "train"), Row("OCC", "", "val")], ["val"]),
        ([Row("CCO"), Row("OCC", "", "afm")], ["afm"]),
        ([Row("CCO", "", "val"), Row("CCO"), Row("OCC", "", "afm"), Row("OCC", "", "train")], ["afm"]),
        ([Row(L_ALANINE, "", "train"), Row("C"), Row(D_ALANINE, "", "test")], ["test", None, "test"]),
        ([Row(L_ALANINE), Row(D_ALANINE, "", "mine")], ["mine", "mine"]),
    ],
)
def test_all_rows_of_a_skeleton_are_in_the_split_that_training_sees_least(rows, splits, monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 1)
    pack = last(rows).pack
    assert list(pack.split) == [
        name or split_of(inchikey(smiles)) for name, smiles in zip(splits, pack.smiles, strict=True)
    ]


def test_molecules_that_experiments_have_shown_are_not_trained_on_unless_a_row_says_so():
    camphor = find_named("(1S)-camphor")[1]
    assert last([Row(camphor, "a")]).pack.split == ("test",) != (split_of(inchikey(camphor)),)
    assert last([Row(camphor, "a", "train")]).pack.split == ("train",)


def test_molecules_that_are_named_several_splits_are_counted(caplog):
    last([Row("CCO", "", "train"), Row("OCC"), Row("CO", "", "val"), Row("CO", "", "val")])
    assert "several splits" not in caplog.text
    last([Row(L_ALANINE, "", "train"), Row(D_ALANINE, "", "test"), Row("C", "", "val"), Row("C", "", "train")])
    assert "name several splits: 3; they are kept from training" in caplog.text


def test_the_pack_says_what_it_was_made_of():
    meta = last(ROWS, seed=2).pack.meta
    assert meta["options"] == PrepareOptions(seed=2).model_dump()
    assert (meta["rows"], meta["molecules"], meta["other_charges"]) == (8, 3, 0)
    assert len(meta["rows_sha256"]) == 64
    assert "time" not in json.dumps(meta)


def test_each_molecule_has_its_conformers_under_seeds_of_their_own():
    pack = last([Row("CCCCCO"), Row("CCCCCCO")], conformers=3).pack
    assert pack.molecule_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert (pack.molecule(0).positions != pack.molecule(1).positions).any()


def test_a_molecule_that_takes_too_long_costs_itself_alone():
    rows = [Row("C"), Row("C" * 80), Row("O")]  # C80H162 takes seconds for each conformer
    progress = last(rows, conformers=4, press=0, jobs=2, timeout_s=0.5)
    assert progress.failed == {"timeout": 1}
    assert progress.failures[0].detail == "took longer than 2 s"
    assert progress.pack.smiles == ("C", "O")


def test_a_process_has_time_for_each_conformer_and_each_trial_of_a_pressed_one():
    rows = [Row("C" * 40), Row("O")]
    progress = last(rows, conformers=12, press=1, jobs=2, timeout_s=0.5)  # seconds in all, a tenth for each trial
    assert progress.failed == {}
    assert len(progress.pack) == 24


class Deadly(Row):
    """A row that ends any process that looks at it, but that of the tests."""

    @property
    def geometry(self):
        return os._exit(9) if multiprocessing.parent_process() else None


def test_a_row_that_kills_the_workers_of_a_cluster_costs_itself_alone(mortal_cluster):
    progress = last([*CHAINS[:3], Deadly("N"), *CHAINS[3:6]], scheduler=mortal_cluster.scheduler_address)
    assert [(f.row, f.reason, f.detail) for f in progress.failures] == [(4, "crash", "its process died")]
    assert progress.pack.sha256 == last(CHAINS[:6]).pack.sha256


def test_progress_is_reported_on_the_way(monkeypatch):
    monkeypatch.setattr(module, "REPORT_EVERY", 2)
    steps = list(prepare(CHAINS[:5]))
    assert [step.done for step in steps] == [2, 4, 5]
    assert [step.pack is None for step in steps] == [True, True, False]


def test_a_list_without_a_single_usable_molecule_is_an_error():
    says = r"^no molecule of the list could be prepared: 2 smiles; the first: row 1: '\?' is no valid SMILES$"
    with pytest.raises(NothingMadeError, match=says) as raised:
        last([Row("?"), Row("!")])
    assert [(failure.row, failure.smiles) for failure in raised.value.failures] == [(1, "?"), (2, "!")]
    with pytest.raises(NothingMadeError, match=r"it is empty$"):
        last([])


def test_splits_hold_ninety_five_and_five_per_cent_and_no_skeleton_is_in_two():
    splits = Counter(split_of(f"{i:014d}-UHFFFAOYSA-N") for i in range(20_000))
    assert splits["train"] == pytest.approx(18_000, abs=150)
    assert splits["val"] == pytest.approx(1000, abs=120)
    assert split_of(inchikey("C[C@H](N)C(=O)O")) == split_of(inchikey("C[C@@H](N)C(=O)O"))

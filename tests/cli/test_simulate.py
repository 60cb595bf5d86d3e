"""`afmid simulate`, run for real on small scans."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io.cube import write_cube

from afmid.data.scan_set import open_scans
from afmid.io import read_scan

SMALL = ("--pixels", "16", "--heights", "2")
WATER = "3\n\nO 0 0 0\nH 0.76 0 -0.59\nH -0.76 0 -0.59\n"


def test_the_scan_has_the_options_that_were_typed_and_the_molecule_as_its_truth(afmid, tmp_path: Path) -> None:
    path, picture = tmp_path / "new" / "scan.npz", tmp_path / "scan.png"
    options = ("--tip", "Xe", "--size", "8", "--step", "0.2", "--amplitude", "0.4")
    done = afmid("simulate", "-", "-o", path, "--plot", picture, *SMALL, *options, stdin=WATER.encode())
    assert (done.returncode, done.stdout) == (0, b"")
    scan = read_scan(path)
    assert scan.df.shape == (16, 16, 2)
    assert scan.pixel == pytest.approx((0.5, 0.5))
    assert scan.z[0] - scan.z[1] == pytest.approx(0.2)
    assert (scan.tip, scan.amplitude) == ("Xe", 0.4)
    assert scan.truth is not None
    assert scan.truth.symbols == ["O", "H", "H"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_molecules_go_into_a_folder_under_their_names(afmid, tmp_path: Path) -> None:
    done = afmid("simulate", "benzene", "CC", "CC", "-o", "out/", *SMALL, cwd=tmp_path)
    assert done.returncode == 0
    names = ["C2H6-2.npz", "C2H6.npz", "benzene.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert done.stderr.decode().count("afmid: wrote out/") == 3


def test_a_list_and_a_folder_go_into_a_folder_and_one_that_fails_costs_itself(afmid, tmp_path: Path) -> None:
    (tmp_path / "mols").mkdir()
    (tmp_path / "mols" / "water.xyz").write_text(WATER)
    (tmp_path / "list.csv").write_text("smiles\nO\nno_smiles\nCO\n")
    done = afmid("simulate", "list.csv", "mols", "-o", "out/", "--plot", "sheet.png", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    names = ["list-000000.npz", "list-000002.npz", "water.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "afmid: warning: left out: list-000001 (no_smiles): 'no_smiles' is no valid SMILES"
    assert lines[-1] == "afmid: 1 of 4 molecules failed; scans written to out/: 3"
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_exists_anywhere_in_a_list_is_refused_before_the_work(afmid, tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("O\n" * 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "list-000002.npz").write_text("kept")
    done = afmid("simulate", "list.smi", "-o", "out/", *SMALL, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"afmid: out/list-000002.npz: exists; give --force to write over it\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["list-000002.npz"]
    assert afmid("simulate", "list.smi", "-o", "out/", "--force", *SMALL, cwd=tmp_path).returncode == 0
    assert read_scan(tmp_path / "out" / "list-000002.npz").df.shape == (16, 16, 2)


def test_the_number_of_jobs_changes_no_byte(afmid, tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("\n".join("C" * n for n in range(1, 12)))
    files = []
    for jobs in ("1", "2"):
        options = ("--jobs", jobs, "--pose", "entropy", "--seed", "3", *SMALL)
        assert afmid("simulate", "list.smi", "-o", f"{jobs}/", *options, cwd=tmp_path).returncode == 0
        files.append({path.name: path.read_bytes() for path in (tmp_path / jobs).iterdir()})
    assert len(files[0]) == 11
    assert files[0] == files[1]


def test_the_preset_writes_24_scans_of_a_molecule_that_say_their_settings(afmid, tmp_path: Path) -> None:
    options = ("--preset", "quam", "--pixels", "8", "--heights", "1", "-o", "quam", "--plot", "all.png")
    assert afmid("simulate", "benzene", *options, cwd=tmp_path).returncode == 0
    assert len(list((tmp_path / "quam").iterdir())) == 24
    scan = read_scan(tmp_path / "quam" / "benzene_K080_Amp120.npz")
    assert (scan.amplitude, scan.meta["tip"]["lateral_stiffness_n_per_m"]) == (1.2, pytest.approx(0.8))
    assert np.ptp(scan.x) == pytest.approx(24 * 7 / 8)


def test_verbose_prints_the_effective_settings_and_the_file_keeps_them(afmid, tmp_path: Path) -> None:
    options = ("--tip", "Cl", "--charge", "-0.2", "--tilt-x", "0.3", "--size", "8", "--engine", "torch", *SMALL)
    done = afmid("-v", "simulate", "benzene", "--seed", "9", "-o", "scan.npz", *options, cwd=tmp_path)
    lines = done.stderr.decode().splitlines()
    tip = "probe Cl, charge -0.2 e, quadrupole 0 e·Å², lateral stiffness 0.5 N/m, radial 30 N/m, length 4 Å"
    assert f"afmid: tip: Cl: {tip}, rest position 0.3, 0 Å" in lines
    assert "afmid: grid: 16 × 16 pixels over 8 × 8 Å" in lines
    assert any(line.startswith("afmid: heights: 2 images 0.1 Å apart") for line in lines)
    assert "afmid: cantilever: amplitude 0.5 Å, resonance 30300 Hz, stiffness 1800 N/m" in lines
    meta = read_scan(tmp_path / "scan.npz").meta
    assert (meta["engine"], meta["tip"]["charge"], meta["pose"]["seed"]) == ("torch", -0.2, 9)
    assert meta["engine_options"]["precision"] == "single"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a group of processes")
def test_an_interrupt_ends_it_at_once_and_leaves_whole_files_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("CCO\n" * 100_000)
    command = [sys.executable, "-m", "afmid", "simulate", "list.smi", "-o", "out/", *SMALL, "--jobs", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True) as running:
        while not (tmp_path / "out").exists():
            assert running.poll() is None
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(20) == 130
        assert running.stderr is not None
        (told,) = running.stderr.read().decode().splitlines()  # which ends when the last process is gone
        assert told.startswith("afmid: interrupted; scans written: ")
    assert all(read_scan(path).df.shape == (16, 16, 2) for path in (tmp_path / "out").glob("[!.]*"))
    assert list((tmp_path / "out").glob(".*")) == []


def test_standard_output_carries_the_same_scan_as_a_file(afmid, scan: Path, tmp_path: Path) -> None:
    done = afmid("simulate", "benzene", "-o", "-", "--pixels", "24", "--heights", "2")
    assert done.stderr == b""
    (tmp_path / "piped.npz").write_bytes(done.stdout)
    assert np.array_equal(read_scan(tmp_path / "piped.npz").df, read_scan(scan).df)


def test_without_a_folder_scans_go_where_the_command_is_run(afmid, tmp_path: Path) -> None:
    (tmp_path / "bad.xyz").write_text("no molecule")
    done = afmid("simulate", "benzene", "bad.xyz", *SMALL, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "afmid: 1 of 2 molecules failed; scans written to .: 1"
    assert (tmp_path / "benzene.npz").exists()


def test_a_terminal_is_spared_the_binary() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "afmid", "simulate", "benzene", "-o", "-"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"would spoil the terminal" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["benzene", "--pixels", "1"], 2, "--pixels is '1'; it should be greater than or equal to 2"),
        (["benzene", "--tip", "W"], 2, "--tip is 'W'; it should be 'CO', 'Xe' or 'Cl'"),
        (["benzene", "--amplitude", "50", "--step", "0.0001"], 2, "the force at 1000010 heights; 2000 are the most"),
        (["benzene", "--engine", "tourch"], 2, "no engine 'tourch'; did you mean 'torch'?"),
        (["nowhere.xyz", "--engine", "tourch"], 2, "no engine 'tourch'"),
        (["nowhere.xyz", "--device", "abacus"], 2, "no device 'abacus'"),
        (["benzene", "-o", "/dev/null"], 1, "/dev/null: is not a regular file"),
        (["benzene", "-o", "kept.npz"], 1, "kept.npz: exists; give --force"),
        (["benzene", "-o", "kept.npz/scan.npz"], 1, "kept.npz/scan.npz: cannot be written"),
        (["benzene", "CC", "-o", "one.npz"], 2, "several scans need -o FOLDER/"),
        (["benzene", "CC", "-o", "-"], 2, "several scans need -o FOLDER/"),
        (["list.smi"], 2, "several scans need -o FOLDER/"),
        (["list.smi", "-o", "-"], 2, "several scans need -o FOLDER/"),
        (["list.smi", "-o", "out/", "--split", "exam"], 1, "list.smi: holds no molecules of the split 'exam'"),
        (["benzene", "--preset", "quam"], 2, "several scans need -o FOLDER/"),
        (["benzene", "--preset", "quam", "-o", "q/", "--amplitude", "1"], 2, "takes each amplitude of 0.4, 0.6, 0.8"),
        (["benzene", "--preset", "guam"], 2, "'guam' is not"),
        (["benzene", "--pose", "upright"], 2, "'upright' is not one of 'as-given', 'flat', 'entropy'"),
        (["benzene", "--plot", "scan.jpg"], 1, "scan.jpg: a picture's name must end in .png, .pdf, .svg"),
        (["benzene", "--plot", "kept.npz"], 1, "kept.npz: a picture's name must end in"),
        (["nowhere.xyz"], 1, "nowhere.xyz: no such file"),
        (["no molecule"], 1, "'no molecule'"),
        (["list.smi", "--shard", "2/2", "-o", "out/"], 2, "--shard is '2/2'; write I/N for shard I of N"),
        (["list.smi", "--shard", "0", "-o", "out/"], 2, "--shard is '0'"),
        (["list.smi", "--shard", "a/3", "-o", "out/"], 2, "--shard is 'a/3'"),
        (["list.smi", "--shard", "0/2"], 2, "shards need -o FOLDER/"),
        (["list.smi", "--shard", "0/2", "-o", "one.tar"], 2, "shards need -o FOLDER/"),
        (["list.smi", "--shard", "2", "-o", "out/", "--plot", "a.png"], 2, "--plot is not for shards"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    afmid, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "kept.npz").write_text("kept")
    (tmp_path / "list.smi").write_text("O\n")
    done = afmid("simulate", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, b"")
    line, *rest = done.stderr.decode().splitlines()
    assert line.startswith("afmid: ")
    assert message in line
    assert rest == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.npz", "list.smi"]
    assert (tmp_path / "kept.npz").read_text() == "kept"


def test_a_cube_file_brings_its_potential_and_its_atoms(afmid, tmp_path: Path) -> None:
    water = Atoms("OH2", [[4, 4, 4], [4.76, 4, 3.41], [3.24, 4, 3.41]], cell=[8, 8, 16])
    distances = np.linalg.norm(np.stack(np.meshgrid(*(0.2 * np.arange(n) for n in (40, 40, 80)), indexing="ij"), -1)
                               - water.positions[0], axis=-1)  # fmt: skip
    with (tmp_path / "water.cube").open("w") as file:
        write_cube(file, water, 0.02 / (distances + 0.5))  # hartree; less for an electron further out
    small = (*SMALL, "--size", "3", "--charge", "0.3", "--potential-sign", "positive")
    done = afmid("simulate", "water.cube", "-o", "cube.npz", *small, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    scan = read_scan(tmp_path / "cube.npz")
    assert scan.meta["potential"] == {"file": "water.cube", "sign": "positive"}
    assert scan.truth is not None
    assert scan.truth.symbols == ["O", "H", "H"]
    xyz = "3\n\n" + "".join(f"{a.symbol} {' '.join(map(str, a.position))} 0\n" for a in water)
    (tmp_path / "water.xyz").write_text(xyz)
    done = afmid("simulate", "water.xyz", "--potential", "water.cube", "-o", "xyz.npz", *small, cwd=tmp_path)
    assert done.returncode == 0
    np.testing.assert_allclose(read_scan(tmp_path / "xyz.npz").df, scan.df, atol=1e-4)
    afmid("simulate", "water.xyz", "-o", "bare.npz", *small[:-2], cwd=tmp_path)
    assert np.abs(read_scan(tmp_path / "bare.npz").df - scan.df).max() > 0.1
    (tmp_path / "list.smi").write_text("O\nCC\n")
    given = ("--potential", "water.cube")
    for arguments in (["water.cube", "--pose", "flat"], ["water.cube", "O"], ["list.smi", *given], ["O", *given]):
        refused = afmid("simulate", *arguments, "-o", "out/", *small, cwd=tmp_path)
        assert refused.returncode == 2
        assert b"a potential is that of one molecule as it lies in a file" in refused.stderr


SHARDS = ("--pose", "entropy", "--seed", "5", *SMALL)


def test_shards_are_written_together_or_one_by_one_and_told_when_they_are_there(afmid, tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("\n".join(["O", "no_smiles", *("C" * n for n in range(1, 6))]))
    done = afmid("simulate", "list.smi", "--shard", "2", "-o", "all/", *SHARDS, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines()[1:] == [
        "afmid: wrote all/list-00000-of-00002.tar: 2 scans",
        "afmid: wrote all/list-00001-of-00002.tar: 4 scans",
        "afmid: 1 of 7 molecules failed; scans written to all/: 6",
    ]
    done = afmid("simulate", "list.smi", "--shard", "1/2", "-o", "each/", *SHARDS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"afmid: wrote each/list-00001-of-00002.tar: 4 scans\n")
    name = "list-00001-of-00002.tar"
    assert (tmp_path / "each" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    done = afmid("simulate", "list.smi", "--shard", "1/2", "-o", "each/", *SHARDS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"afmid: each/list-00001-of-00002.tar: is there already\n")
    other = ("simulate", "list.smi", "--shard", "1/2", "-o", "each/", *SHARDS, "--tip", "Xe")
    double = ("simulate", "list.smi", "--shard", "1/2", "-o", "each/", *SHARDS, "--engine", "torch")
    for arguments in (other, (*double, "--set", "precision=double")):
        refused = afmid(*arguments, cwd=tmp_path)
        assert refused.returncode == 1
        assert b"give --force to write over it" in refused.stderr
    assert afmid(*other, "--force", cwd=tmp_path).returncode == 0
    assert {scan.tip for scan in open_scans([tmp_path / "each"])} == {"Xe"}


def test_a_shard_whose_run_is_killed_is_finished_by_the_same_command(afmid, tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("\n".join(["C" * (1 + n % 9) + "O" for n in range(150)]))
    arguments = ("simulate", "list.smi", "--shard", "0/1", *SHARDS, "--pixels", "48", "--engine", "torch")
    assert afmid(*arguments, "-o", "whole/", cwd=tmp_path).returncode == 0
    part = tmp_path / "killed" / ".list-00000-of-00001.tar.part"
    command = [sys.executable, "-m", "afmid", *arguments, "-o", "killed/"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as running:
        while not part.exists() or part.stat().st_size < 800_000:  # some blocks of 32 scans
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
    assert not (tmp_path / "killed" / "list-00000-of-00001.tar").exists()
    kept = part.stat().st_size
    done = afmid(*arguments, "-o", "killed/", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"afmid: wrote killed/list-00000-of-00001.tar: 150 scans\n")
    (written,) = (tmp_path / "killed").iterdir()
    assert written.stat().st_size > kept
    assert written.read_bytes() == (tmp_path / "whole" / written.name).read_bytes()


def test_a_cluster_writes_the_files_that_this_process_writes(afmid, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    (tmp_path / "water.xyz").write_text(WATER)
    (tmp_path / "list.smi").write_text("O\nno_smiles\nCO\nCC\n")
    arguments = ("simulate", "water.xyz", "list.smi", *SHARDS, "--engine", "torch", "--device", "cpu")
    local = afmid(*arguments, "-o", "local/", cwd=tmp_path)
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = ("--scheduler", cluster.scheduler_address)
        there = afmid(*arguments, "-o", "there/", *address, cwd=tmp_path)
    assert there.stderr.decode() == local.stderr.decode().replace("local/", "there/")
    names = sorted(path.name for path in (tmp_path / "local").iterdir())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_what_is_wrong_with_the_input_is_told_before_an_engine_is_loaded(afmid, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('loaded')")
    for arguments in (["nowhere.xyz"], ["benzene", "-o", "/dev/null"], ["benzene", "CC", "-o", "one.npz"]):
        done = afmid("simulate", *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert done.returncode in (1, 2)
        assert b"loaded" not in done.stderr

"""Processes that train together, on two of the CPU: the real ones, started by `launch`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from afmid import processes
from afmid.processes import any_of, average, first, joined, launch, rank, take_first, together, world

TRAINING = """
import os, sys
from pathlib import Path
import torch
from afmid import processes
from afmid.recipe import Recipe
from afmid.training import fit

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
recipe = Recipe(steps=8, batch=6, learning_rate=0.05, warmup=2, average=0.5, validate_every=4)

class Points:
    sha256 = "abc"

    def batch(self, step):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(step)).double()
        share = slice(processes.rank() * 6 // processes.world(), (processes.rank() + 1) * 6 // processes.world())
        return x[share], x[share].sum(1, keepdim=True) ** 2

    def validation(self):
        assert processes.rank() == 0
        return [self.batch(100)]

class Task:
    def __init__(self, seed):
        torch.manual_seed(seed)
        layers = torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        self.model = torch.nn.Sequential(*layers).double()
        self.model.register_buffer("seen", torch.tensor(0.0))

    def loss(self, model, batch):
        model.seen += batch[0].sum()
        return (model(batch[0]) - batch[1]).square().mean()

    def validate(self, model, batches):
        return {"loss": float(self.loss(model, batches[0]))}

    def picture(self, model, batch, path):
        pass

    def metadata(self, model, batches):
        return {"method": "t", "architecture": "t"}

with processes.joined("cpu"):
    task = Task(processes.rank())
    stopping = lambda: processes.rank() == 1 and len(progress) + 1 == steps
    progress = []
    for step in fit(task, Points(), recipe, folder, stop=stopping):
        progress.append(step)
    torch.save([task.model.state_dict(), [step.loss for step in progress]], folder / f"rank{processes.rank()}.pt")
processes.leave(0)
"""


def launched(code: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code in two processes that train together."""
    line = f"import sys; from afmid.processes import launch; sys.exit(launch([sys.executable, '-c', {code!r}], 2))"
    return subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)


def train(folder: Path, count: int, steps: int = 0) -> list:
    """Train in `count` processes, and return the weights, buffers and losses of each."""
    script = folder.with_suffix(".py")
    script.write_text(TRAINING)
    assert launch([sys.executable, str(script), str(folder), str(steps)], count) == 0
    return [torch.load(folder / f"rank{i}.pt", weights_only=True) for i in range(count)]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list:
    """What two processes made of an undisturbed run."""
    return train(tmp_path_factory.mktemp("both") / "run", 2)


def test_two_processes_have_the_same_weights_and_train_as_one_with_the_whole_batch(both, tmp_path):
    (alone,) = train(tmp_path / "run", 1)
    for name, value in both[0][0].items():
        assert torch.equal(value, both[1][0][name])
        if name != "seen":
            assert torch.allclose(value, alone[0][name], rtol=1e-5)
    assert both[0][1] == both[1][1] == pytest.approx(alone[1], rel=1e-5)


def test_two_processes_stop_together_and_go_on_where_they_stopped(both, tmp_path):
    assert [len(losses) for _, losses in train(tmp_path / "run", 2, steps=3)] == [3, 3]
    rest = train(tmp_path / "run", 2)
    assert rest[0][1] == rest[1][1] == both[0][1][3:]
    assert all(torch.equal(value, both[0][0][name]) for name, value in rest[0][0].items())


def test_one_process_answers_for_itself():
    with joined("cpu"):
        assert (rank(), world(), any_of(True, False)) == (0, 1, [True, False])
        assert (first(lambda: "made"), together(lambda: "made")) == ("made", "made")
    tensor = torch.tensor([1.0, 2.0])
    average([tensor])
    take_first([tensor])
    assert tensor.tolist() == [1, 2]


@pytest.mark.parametrize("fails", ["first(fail)", "together(lambda: fail() if rank() else 1)"])
def test_an_error_of_a_process_ends_all_with_its_code_and_one_message(fails):
    code = (
        "from afmid.processes import first, joined, rank, together\nfrom afmid.errors import UsageError\n"
        "def fail(): raise UsageError('no such thing')\n"
        "with joined('cpu'):\n"
        f"    try: {fails}\n"
        "    except UsageError as error: print(error, flush=True); raise SystemExit(2)\n"
    )
    done = launched(code)
    assert (done.returncode, done.stdout, done.stderr) == (2, "no such thing\n", "")


def test_a_process_says_in_words_that_another_is_gone():
    code = (
        "import os\nfrom afmid.processes import any_of, joined, rank\nfrom afmid.errors import AfmidError\n"
        "with joined('cpu'):\n"
        "    if rank(): os._exit(3)\n"
        "    try: any_of(True)\n"
        "    except AfmidError as error: print(error, flush=True)\n"
    )
    done = launched(code)
    assert (done.returncode, done.stdout[:31], done.stderr) == (3, "a process of this run is gone, ", "")


def test_where_a_process_dies_the_others_are_stopped(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    code = "import os, time\nif os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\ntime.sleep(60)"
    before = time.monotonic()
    assert launch([sys.executable, "-c", code], 2) == 128 + signal.SIGKILL
    assert time.monotonic() - before < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_to_each_process(number):
    code = (
        "import os, signal, time\n"
        f"signal.signal({int(number)}, lambda *_: os.write(1, b'caught\\n'))\n"
        "os.write(1, b'ready\\n')\ntime.sleep(2)\nraise SystemExit(130)"
    )
    line = f"import sys; from afmid.processes import launch; sys.exit(launch([sys.executable, '-c', {code!r}], 2))"
    running = subprocess.Popen([sys.executable, "-c", line], stdout=-1, text=True, start_new_session=True)
    assert [running.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    os.killpg(running.pid, number)
    assert running.communicate(timeout=60)[0] == "caught\n" * 2
    assert running.returncode == 130

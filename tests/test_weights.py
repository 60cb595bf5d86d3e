import hashlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_arrays

from afmid import weights
from afmid.errors import DataError, UsageError, WeightsError
from afmid.offers import Identifier
from afmid.plugins import Plugin, Registry
from afmid.weights import WeightsEntry

CONTENT = save_arrays(
    {"layer.weight": np.arange(2000, dtype=np.float32)}, {"method": "toy", "architecture": "ToyNet", "version": "1"}
)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = save_arrays({"layer.weight": np.zeros(2000, np.float32)}, {"method": "toy", "architecture": "ToyNet"})
WRONG_SHA256 = hashlib.sha256(WRONG).hexdigest()
INDEX = Template(f"""schema = "afmid.weights/1"

[[weights]]
name = "toy"
file = "toy.safetensors"
sha256 = "{SHA256}"
size = {len(CONTENT)}
license = "MIT"
method = "toy"
version = "1.0"
$more
""")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin's folder: its weights.toml, and the file."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "weights.toml").write_text(INDEX.substitute(more=""))
    (folder / "toy.safetensors").write_bytes(CONTENT)
    return folder


@pytest.fixture
def entry(plugin: Path) -> WeightsEntry:
    return weights.read_index(plugin / "weights.toml")[0]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@dataclass
class Server:
    url: str
    answer: Callable[[BaseHTTPRequestHandler], None]
    requests: list[str] = field(default_factory=list)


def respond(
    handler: BaseHTTPRequestHandler, content: bytes = CONTENT, status: int = 200, promise: int | None = None
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if promise is None else promise))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    """A mirror on this machine, whose answer a test can change."""
    mirror = Server("", respond)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.requests.append(self.path)
            mirror.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        mirror.url = f"http://127.0.0.1:{http.server_port}/lab/afmid"
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield mirror
        http.shutdown()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- fetching -----------------------------------------------------------------------------------------------------


def test_a_good_file_comes_from_the_mirror_and_lies_in_the_cache(entry, cache, server, caplog):
    entry.shipped.unlink()
    told: list[tuple[int, int]] = []
    path = weights.fetch(entry, cache=cache, mirror=server.url, progress=lambda done, all_: told.append((done, all_)))
    assert path.read_bytes() == CONTENT
    assert files_in(cache) == [path]
    assert server.requests == ["/lab/afmid/toy.safetensors"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert not warnings(caplog)


def test_a_cached_file_is_used_without_asking_the_mirror_again(entry, cache, server):
    first = weights.fetch(entry, cache=cache, mirror=server.url + "/")
    assert weights.fetch(entry, cache=cache, mirror=server.url + "/") == first
    assert len(server.requests) == 1


def test_a_damaged_cached_file_is_fetched_again(entry, cache, server):
    path = weights.fetch(entry, cache=cache, mirror=server.url)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert weights.state(entry, cache) == "damaged"
    assert weights.fetch(entry, cache=cache, mirror=server.url).read_bytes() == CONTENT
    assert weights.state(entry, cache) == "cached"
    assert len(server.requests) == 2


@pytest.mark.parametrize("content", [WRONG, CONTENT[:-100], CONTENT + b"more", b"<html>please log in</html>", b""])
def test_a_wrong_file_from_the_mirror_is_an_error_that_names_both_hashes_and_the_address(
    entry, cache, server, content
):
    server.answer = partial(respond, content=content)
    with pytest.raises(WeightsError) as raised:
        weights.fetch(entry, cache=cache, mirror=server.url)
    message = str(raised.value)
    assert SHA256 in message
    assert hashlib.sha256(content).hexdigest() in message
    assert f"{server.url}/toy.safetensors" in message
    assert not files_in(cache)


def test_a_download_without_end_is_stopped(entry, cache, server):
    def stream(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(2**20))
        except ConnectionError:
            pass

    server.answer = stream
    with pytest.raises(WeightsError, match="larger than 16777216 bytes"):
        weights.fetch(entry, cache=cache, mirror=server.url)
    assert not files_in(cache)


FAILURES = {
    "answers 404 Not Found": partial(respond, content=b"", status=404),
    "answers 500 Internal Server Error": partial(respond, content=b"", status=500),
    "broke off after 1024 bytes": partial(respond, content=CONTENT[:1024], promise=len(CONTENT)),
    "broke off after 0 bytes": partial(respond, content=b"", promise=len(CONTENT)),
    "the mirror cannot be reached": lambda handler: handler.connection.close(),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_mirror_that_fails_costs_a_warning_and_the_shipped_copy_is_used(entry, cache, server, reason, caplog):
    server.answer = FAILURES[reason]
    assert weights.fetch(entry, cache=cache, mirror=server.url).read_bytes() == CONTENT
    [warning] = warnings(caplog)
    assert reason in warning
    assert f"{server.url}/toy.safetensors" in warning
    assert len(files_in(cache)) == 1


@pytest.mark.parametrize("reason", FAILURES)
def test_a_mirror_that_fails_is_an_error_where_no_copy_is_shipped(entry, cache, server, reason):
    entry.shipped.unlink()
    server.answer = FAILURES[reason]
    with pytest.raises(WeightsError, match=reason):
        weights.fetch(entry, cache=cache, mirror=server.url)
    assert not files_in(cache)


def test_without_network_the_shipped_copy_is_used_and_the_mirror_is_not_asked_again(entry, cache, caplog):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        closed = f"http://127.0.0.1:{http.server_port}"
    for _ in range(2):
        assert weights.fetch(entry, cache=cache, mirror=closed).read_bytes() == CONTENT
    [warning] = warnings(caplog)
    assert "the mirror cannot be reached; using the copy that came with the plugin" in warning


def test_a_server_that_does_not_answer_is_given_up(entry, cache, server, monkeypatch, caplog):
    monkeypatch.setattr("afmid.mirror.WAIT", 0.2)
    release = threading.Event()
    server.answer = lambda handler: release.wait(20)
    assert weights.fetch(entry, cache=cache, mirror=server.url).read_bytes() == CONTENT
    release.set()
    assert "no answer within" in warnings(caplog)[0]


@pytest.mark.parametrize("form", [str, lambda path: f"{path}/", lambda path: path.as_uri()])
def test_a_directory_serves_as_mirror(entry, cache, tmp_path, form, caplog):
    folder = tmp_path / "a mirror"
    folder.mkdir()
    entry.shipped.rename(folder / "toy.safetensors")
    assert weights.fetch(entry, cache=cache, mirror=form(folder)).read_bytes() == CONTENT
    assert not warnings(caplog)


def test_a_directory_that_is_not_there_costs_a_warning(entry, cache, tmp_path, caplog):
    assert weights.fetch(entry, cache=cache, mirror=str(tmp_path / "unmounted")).read_bytes() == CONTENT
    assert "unmounted" in warnings(caplog)[0]
    assert "no such file" in warnings(caplog)[0]


@pytest.mark.parametrize("mirror", ["ftp://server/afmid", "s3://bucket", "gopher://x"])
def test_an_address_of_another_kind_is_an_error_that_says_what_there_is(entry, cache, mirror):
    with pytest.raises(WeightsError, match="takes an http, https or sftp address, a DOI, or a directory"):
        weights.fetch(entry, cache=cache, mirror=mirror)


def test_without_mirror_the_shipped_copy_is_used(entry, cache, caplog):
    assert weights.state(entry, cache) == "shipped"
    assert weights.fetch(entry, cache=cache).read_bytes() == CONTENT
    assert weights.state(entry, cache) == "cached"
    assert not warnings(caplog)


def test_a_wrong_shipped_copy_is_an_error_that_names_both_hashes(entry, cache):
    entry.shipped.write_bytes(WRONG)
    with pytest.raises(WeightsError, match=f"{SHA256}, is {WRONG_SHA256}.*install its plugin again"):
        weights.fetch(entry, cache=cache)
    assert not files_in(cache)


def test_a_file_that_is_nowhere_is_an_error_that_says_what_to_do(entry, cache):
    entry.shipped.unlink()
    assert weights.state(entry, cache) == "missing"
    with pytest.raises(WeightsError, match=r"set AFMID_WEIGHTS_URL .* or make your own: afmid train toy"):
        weights.fetch(entry, cache=cache)


def test_where_the_cache_cannot_be_written_the_shipped_copy_is_used_in_place(entry, cache, server):
    cache.write_text("a file, where a folder cannot be made (which holds for root as well)")
    assert weights.fetch(entry, cache=cache) == entry.shipped
    assert weights.fetch(entry, cache=cache, mirror=server.url) == entry.shipped
    entry.shipped.unlink()
    with pytest.raises(WeightsError, match="set AFMID_CACHE to another folder"):
        weights.fetch(entry, cache=cache, mirror=server.url)


FETCH = """
import sys
from pathlib import Path
from afmid import weights
plugin, cache, mirror = sys.argv[1:]
[entry] = weights.read_index(Path(plugin) / "weights.toml")
print(weights.fetch(entry, cache=Path(cache), mirror=mirror))
"""


def test_threads_and_processes_that_fetch_at_once_all_get_a_whole_file(entry, plugin, cache, server):
    together = threading.Barrier(2)

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        together.wait(60)  # both have begun before either gets an answer
        respond(handler)

    server.answer = slowly
    entry.shipped.unlink()
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda _: weights.fetch(entry, cache=cache, mirror=server.url), range(2)))
    other = cache.with_name("cache of processes")
    command = [sys.executable, "-c", FETCH, plugin, other, server.url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    got += [Path(process.communicate(timeout=60)[0].strip()) for process in running]
    assert {path.read_bytes() for path in got} == {CONTENT}
    assert [len(files_in(cache)), len(files_in(other))] == [1, 1]
    assert len(server.requests) == 4


def test_two_versions_of_a_file_lie_beside_each_other_in_the_cache(entry, cache, plugin, tmp_path):
    newer = entry.model_copy(update={"sha256": WRONG_SHA256, "size": len(WRONG), "folder": tmp_path})
    newer.shipped.write_bytes(WRONG)
    for _ in range(2):
        assert weights.fetch(entry, cache=cache).read_bytes() == CONTENT
        assert weights.fetch(newer, cache=cache).read_bytes() == WRONG
    assert len(files_in(cache)) == 2


# --- weights.toml -------------------------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=20)
toml_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
entries = st.builds(
    WeightsEntry,
    name=st.from_regex(r"[a-z][a-z0-9._-]{0,10}", fullmatch=True),
    file=st.from_regex(r"[A-Za-z0-9][a-z.+-]{0,10}\.safetensors", fullmatch=True),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    size=st.integers(1, 2**40),
    license=text.filter(bool),
    method=st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
    version=text.filter(bool),
    recipe=text | st.dictionaries(text, toml_values, max_size=4),
    data=text,
    time=text,
    scores=st.dictionaries(text, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    command=text,
)


@settings(deadline=None, max_examples=50)
@given(written=st.lists(entries, max_size=3, unique_by=(lambda e: e.name, lambda e: e.file)))
def test_what_is_written_to_weights_toml_is_read_back(written, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "weights.toml"
    weights.write_index(path, written)
    assert weights.read_index(path) == tuple(e.model_copy(update={"folder": path.parent}) for e in written)


def test_every_field_of_an_entry_is_explained():
    assert all(info.description for info in WeightsEntry.model_fields.values())


ELSEWHERE = ["..", "../a.safetensors", "a/b.safetensors", r"a\\b.safetensors", "/a.safetensors", "C:a.safetensors"]
UNFIT = ["", ".safetensors", "a.pt", r"a.safetensors\n"]


@pytest.mark.parametrize("name", ELSEWHERE + UNFIT)
def test_a_file_name_that_leads_elsewhere_is_refused(plugin, name):
    path = plugin / "weights.toml"
    path.write_text(path.read_text().replace("toy.safetensors", name))
    with pytest.raises(WeightsError, match=r"weights.toml: weights\[0\].file is .* a plain file name"):
        weights.read_index(path)


BAD_INDEXES = {
    "": "schema is None",
    'schema = "afmid.weights/2"': "schema is 'afmid.weights/2'; this version of afmid reads 'afmid.weights/1'",
    "schema = ?": "is no valid TOML: .*line 1",
    'schema = "afmid.weights/1"\nweight = 1': "unknown key 'weight'",
    'schema = "afmid.weights/1"\nweights = 1': "each under its own",
    'schema = "afmid.weights/1"\n[[weights]]\nname = "x"': r"weights\[0\] lacks the key 'file'",
    INDEX.substitute(more='licence = "MIT"'): r"weights\[0\] has an unknown key 'licence'",
    INDEX.substitute(more='folder = "/"'): "unknown key 'folder'",
    INDEX.substitute(more="scores = {loss = nan}"): r"weights\[0\].scores is .*a table of numbers",
    INDEX.substitute(more="time = 2.5"): r"weights\[0\].time is 2.5; .* with its unit",
    INDEX.substitute(more="").replace(SHA256, SHA256.upper()): r"weights\[0\].sha256 is .* hexadecimal",
    INDEX.substitute(more="").replace(f"= {len(CONTENT)}", "= -1"): r"weights\[0\].size is -1",
    INDEX.substitute(more="").replace(f"= {len(CONTENT)}", '= "9"'): r"weights\[0\].size is '9'",
    INDEX.substitute(more="") * 2: "unknown key 'schema'",
    INDEX.substitute(more="") + INDEX.substitute(more="").partition("\n")[2]: "name 'toy' stands in two",
}


@pytest.mark.parametrize("content", BAD_INDEXES)
def test_an_error_in_weights_toml_is_named_with_file_and_key(tmp_path, content):
    path = tmp_path / "weights.toml"
    path.write_text(content)
    with pytest.raises(WeightsError, match=f"^{path}.*(?:{BAD_INDEXES[content]})"):
        weights.read_index(path)


def test_a_weights_toml_that_is_not_there_or_no_text_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.read_index(tmp_path / "weights.toml")
    (tmp_path / "weights.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(WeightsError, match="is no valid TOML"):
        weights.read_index(tmp_path / "weights.toml")


# --- finding ------------------------------------------------------------------------------------------------------


def registry_of(**folders: Path) -> Registry:
    known = {}
    for name, folder in folders.items():
        offer = Identifier(
            name=name, summary="a toy", load=lambda weights, device: None, weights_index=folder / "weights.toml"
        )
        known[(Identifier, name)] = (Plugin(name, f"afmid-{name}", "1", name, (offer,)), offer)
    return Registry(tuple(plugin for plugin, _ in known.values()), known)


def test_weights_are_found_by_name(plugin, entry):
    registry = registry_of(toy=plugin)
    assert weights.find(registry, "toy") == entry
    assert weights.default(registry.get(Identifier, "toy")) == entry


def test_an_unknown_name_is_an_error_that_names_the_nearest(plugin):
    with pytest.raises(UsageError, match="no weights 'tyo'; did you mean 'toy'"):
        weights.find(registry_of(toy=plugin), "tyo")


def test_a_name_that_two_plugins_use_is_an_error_that_names_both(plugin, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights.toml").write_text(INDEX.substitute(more=""))
    with pytest.raises(WeightsError, match=f"{other}.*{plugin}|{plugin}.*{other}"):
        weights.find(registry_of(toy=plugin, other=other), "toy")


def test_a_broken_weights_toml_costs_itself_and_a_warning(plugin, entry, tmp_path, caplog):
    (tmp_path / "weights.toml").write_text("schema = ")
    assert weights.available(registry_of(broken=tmp_path, toy=plugin)) == [entry]
    assert "is no valid TOML" in warnings(caplog)[0]


def test_a_method_whose_plugin_lists_no_weights_has_no_default(tmp_path):
    [plain] = registry_of(plain=tmp_path).all(Identifier)
    assert weights.default(plain) is None
    weights.write_index(tmp_path / "weights.toml", [])
    assert weights.default(plain) is None


def test_cache_and_mirror_are_named_by_the_environment(tmp_path):
    assert weights.cache_folder({"AFMID_CACHE": str(tmp_path)}) == tmp_path
    assert weights.cache_folder({}).name == "afmid"
    assert weights.mirror_url({"AFMID_WEIGHTS_URL": " doi:10.5281/zenodo.1 "}) == "doi:10.5281/zenodo.1"
    assert weights.mirror_url({"AFMID_WEIGHTS_URL": ""}) is weights.mirror_url({}) is None


# --- export -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["directory", "http"])
def test_an_exported_folder_serves_as_mirror(entry, cache, tmp_path, over):
    folder = tmp_path / "mirror"
    assert weights.export([entry], folder, cache=cache) == [folder / "toy.safetensors", folder / "weights.toml"]
    [served] = weights.read_index(folder / "weights.toml")
    assert served == entry.model_copy(update={"folder": folder})
    entry.shipped.unlink()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        mirror = f"http://127.0.0.1:{http.server_port}" if over == "http" else str(folder)
        assert weights.fetch(entry, cache=tmp_path / "elsewhere", mirror=mirror).read_bytes() == CONTENT
        http.shutdown()


def test_export_adds_to_what_a_folder_serves_already(entry, cache, tmp_path):
    other = entry.model_copy(update={"name": "other", "file": "other.safetensors"})
    other.shipped.write_bytes(CONTENT)
    for chosen in (entry, other, entry.model_copy(update={"version": "2"})):
        weights.export([chosen], tmp_path / "mirror", cache=cache)
    served = weights.read_index(tmp_path / "mirror" / "weights.toml")
    assert [(e.name, e.version) for e in served] == [("other", "1.0"), ("toy", "2")]


def test_export_to_where_nothing_can_be_written_is_an_error(entry, cache, tmp_path):
    (tmp_path / "mirror").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        weights.export([entry], tmp_path / "mirror", cache=cache)


# --- safetensors --------------------------------------------------------------------------------------------------

NAMES = {"method": "toy", "architecture": "ToyNet", "version": "1", "config": '{"width": 8}'}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@settings(deadline=None, max_examples=50)
@given(
    shapes=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(DTYPES)),
        max_size=4,
    ),
    notes=st.dictionaries(text, text, max_size=3),
)
def test_what_is_saved_is_read_back_and_the_same_content_gives_the_same_bytes(shapes, notes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tensors = {name: torch.rand(shape).mul(9).to(dtype) for name, (shape, dtype) in shapes.items()}
    for file in ("a.safetensors", "b.safetensors"):
        weights.save_safetensors(tensors, {**notes, **NAMES}, folder / file)
    got, metadata = weights.read_safetensors(folder / "a.safetensors", "toy", architecture="ToyNet")
    assert metadata == {**notes, **NAMES}
    assert got.keys() == tensors.keys()
    assert all(got[name].dtype == tensors[name].dtype and torch.equal(got[name], tensors[name]) for name in tensors)
    assert (folder / "a.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()


def test_tensors_that_share_memory_or_are_turned_are_saved_as_they_read(tmp_path):
    base = torch.arange(6.0).reshape(2, 3).requires_grad_()
    weights.save_safetensors({"a": base, "b": base.T, "c": base[0]}, NAMES, tmp_path / "w.safetensors")
    got, _ = weights.read_safetensors(tmp_path / "w.safetensors", "toy")
    assert torch.equal(got["a"], base)
    assert torch.equal(got["b"], base.T)
    assert torch.equal(got["c"], base[0])


@pytest.mark.parametrize("asked", [{"method": "other"}, {"architecture": "OtherNet"}])
def test_weights_for_something_else_are_refused_in_words(tmp_path, asked):
    weights.save_safetensors({"a": torch.ones(2)}, NAMES, tmp_path / "w.safetensors")
    [(key, value)] = asked.items()
    says = f"w.safetensors: made for {key} '{NAMES[key]}', not for '{value}'; its version is 1"
    with pytest.raises(WeightsError, match=says):
        weights.read_safetensors(tmp_path / "w.safetensors", **{"method": "toy", **asked})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_neither_saved_nor_read(tmp_path, bad):
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match=r"head\.bias holds values that are not finite"):
        weights.save_safetensors({"head.bias": torch.tensor([1.0, bad])}, NAMES, path)
    assert not path.exists()
    path.write_bytes(save_arrays({"head.bias": np.array([1.0, bad], np.float32)}, NAMES))
    with pytest.raises(WeightsError, match=r"head\.bias holds values that are not finite"):
        weights.read_safetensors(path, "toy")


def test_a_safetensors_file_that_names_no_method_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_arrays({"a": np.ones(2)}))
    with pytest.raises(WeightsError, match="its metadata name no method"):
        weights.read_safetensors(path, "toy")
    with pytest.raises(WeightsError, match="its metadata name no architecture"):
        weights.save_safetensors({"a": torch.ones(2)}, {"method": "toy"}, path)


class Bomb:
    def __reduce__(self):
        return print, ("a pickle was loaded",)


def test_no_pickle_is_loaded_whatever_the_name_says(tmp_path, capfd):
    path = tmp_path / "w.safetensors"
    torch.save({"a": Bomb()}, path)
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        weights.read_safetensors(path, "toy")
    assert "a pickle was loaded" not in capfd.readouterr().out


@settings(deadline=None, max_examples=50)
@given(cut=st.integers(0, len(CONTENT) - 1))
def test_a_cut_safetensors_file_is_refused(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "w.safetensors"
    path.write_bytes(CONTENT[:cut])
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        weights.read_safetensors(path, "toy")


def test_a_weights_file_that_is_not_there_or_a_folder_is_an_error(tmp_path):
    for path in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(WeightsError, match=str(path)):
            weights.read_safetensors(path, "toy")


def test_importing_the_store_imports_nothing_heavy():
    heavy = ["torch", "pooch", "requests", "paramiko", "rdkit", "ase", "scipy", "safetensors"]
    code = f"import afmid.weights, json, sys; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == []

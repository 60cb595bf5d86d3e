"""The store of pretrained weights: safetensors files, each listed in the `weights.toml` of the plugin that uses it.

`fetch` gives a verified file from the first of: the cache, the mirror (afmid.mirror), the copy inside the installed
plugin. What it gets goes into the cache, so that a mirror is asked once. A mirror that cannot be reached, lacks the
file or breaks off costs a warning, and the shipped copy is used. A mirror that answers with another content is an error
at once, for somebody has to look at that mirror. No pickle is ever read.
"""

import difflib
import hashlib
import json
import logging
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from afmid.errors import DataError, UsageError, WeightsError
from afmid.io.atomic import atomic_path
from afmid.mirror import MirrorError, download
from afmid.offers import Identifier

if TYPE_CHECKING:
    from torch import Tensor

    from afmid.plugins import Registry

log = logging.getLogger(__name__)

SCHEMA = "afmid.weights/1"
INDEX = "weights.toml"
LIMIT = 16 * 2**20  # bytes; a larger network is split over several files

Progress = Callable[[int, int], None]  # bytes that have come, bytes in all


class CacheError(WeightsError):
    """A cache folder that cannot be written."""


class WeightsEntry(BaseModel, frozen=True, extra="forbid", strict=True):
    """One weights file and where it comes from: a `[[weights]]` table of weights.toml.

    `name` asks for it; the entry that bears its method's name is that method's default.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9._-]*$", description="lower-case letters, digits, '.', '_' and '-'")
    file: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*\.safetensors$",
        max_length=128,
        description="a plain file name that ends in .safetensors, no folders",
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="64 lower-case hexadecimal digits")
    size: int = Field(gt=0, description="a number of bytes above 0")
    license: str = Field(min_length=1, description="an SPDX expression such as 'MIT'")
    method: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="the name of the method it is for")
    version: str = Field(min_length=1, description="the version of the weights, a string")
    recipe: str | dict[str, Any] = Field("", description="the recipe that made it, a string or a table")
    data: str = Field("", description="the data it was trained on, a string")
    device: str = Field("", description="the device it was trained on, a string")
    time: str = Field("", description="how long that took, a string with its unit such as '2 h'")
    scores: dict[str, FiniteFloat] = Field(default_factory=dict, description="a table of numbers")
    command: str = Field("", description="the command that measures the scores")
    folder: Path = Field(default=Path(), exclude=True, description="where weights.toml lies")

    @property
    def shipped(self) -> Path:
        """Where the plugin's own copy lies, if it ships one."""
        return self.folder / self.file

    def cached(self, cache: Path) -> Path:
        """Return where the verified copy lies in a cache; versions that share a file name do not collide."""
        return cache / "weights" / self.sha256[:16] / self.file


@dataclass(frozen=True)
class Copy:
    """A copy of a weights file that exists: `place` is "cached" or "shipped"; `sha256` and `size` (bytes) as found."""

    entry: WeightsEntry
    place: str
    path: Path
    sha256: str
    size: int

    @property
    def good(self) -> bool:
        """Whether it is the file that weights.toml means."""
        return self.sha256 == self.entry.sha256

    @property
    def fault(self) -> str:
        """What is wrong with it, in one line with both hashes, and what to do; "" where nothing is."""
        if self.good:
            return ""
        cure = f"afmid weights fetch {self.entry.name}" if self.place == "cached" else "install its plugin again"
        return f"{_mismatch(str(self.path), self.entry, self.sha256, self.size)}; mend it: {cure}"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return AFMID_CACHE of an environment, else the user's cache folder."""
    if folder := environment.get("AFMID_CACHE"):
        return Path(folder).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("afmid")


def mirror_url(environment: Mapping[str, str]) -> str | None:
    """Return AFMID_WEIGHTS_URL of an environment: http, https, sftp, a DOI or a directory; None where it is not set."""
    return environment.get("AFMID_WEIGHTS_URL", "").strip() or None


def read_index(path: Path) -> tuple[WeightsEntry, ...]:
    """Return the entries of a weights.toml.

    Raises:
        WeightsError: where it cannot be read, or a key is missing, unknown or out of range; it names file and key.
    """
    try:
        index = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise WeightsError(f"{path}: is no valid TOML: {error}") from error
    if index.get("schema") != SCHEMA:
        raise WeightsError(f"{path}: schema is {index.get('schema')!r}; this version of afmid reads {SCHEMA!r}")
    if unknown := sorted(index.keys() - {"schema", "weights"}):
        raise WeightsError(f"{path}: has an unknown key {unknown[0]!r}; it may have: schema, weights")
    tables = index.get("weights", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise WeightsError(f"{path}: weights must be tables, each under its own [[weights]]")
    entries = tuple(_entry(path, f"weights[{i}]", table) for i, table in enumerate(tables))
    for key in ("name", "file"):
        values = [getattr(entry, key) for entry in entries]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise WeightsError(f"{path}: {key} {twice[0]!r} stands in two [[weights]]; each needs its own")
    return entries


def _entry(path: Path, where: str, table: dict[str, Any]) -> WeightsEntry:
    keys = list(WeightsEntry.model_fields.keys() - {"folder"})
    if unknown := sorted(table.keys() - keys):
        raise WeightsError(f"{path}: {where} has an unknown key {unknown[0]!r}; it may have: {', '.join(sorted(keys))}")
    try:
        return WeightsEntry.model_validate({**table, "folder": path.parent})
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        if problem["type"] == "missing":
            raise WeightsError(f"{path}: {where} lacks the key {key!r}") from error
        meaning = WeightsEntry.model_fields[key].description
        raise WeightsError(f"{path}: {where}.{key} is {table[key]!r}; it must be {meaning}") from error


def write_index(path: Path, entries: Iterable[WeightsEntry]) -> None:
    """Write a weights.toml, which `read_index` reads back.

    Raises:
        DataError: where it cannot be written.
    """
    blocks = [f"schema = {_toml(SCHEMA)}\n"]
    for entry in entries:
        lines = [f"{key} = {_toml(value)}\n" for key, value in entry.model_dump(exclude_defaults=True).items()]
        blocks.append("[[weights]]\n" + "".join(lines))
    _write(path, "\n".join(blocks).encode())


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)  # a number, or a date in ISO form


def available(registry: "Registry") -> list[WeightsEntry]:
    """Return the entries of all installed methods, by name; a weights.toml with an error costs itself and a warning."""
    found: list[WeightsEntry] = []
    for index in sorted({offer.weights_index for offer in registry.all(Identifier) if offer.weights_index}):
        if index.exists():
            try:
                found += read_index(index)
            except WeightsError as error:
                log.warning("%s; its weights are left out", error)
    return sorted(found, key=lambda entry: entry.name)


def find(registry: "Registry", name: str) -> WeightsEntry:
    """Return the entry of a name.

    Raises:
        UsageError: where there is none.
        WeightsError: where two plugins use the name.
    """
    entries = available(registry)
    matches = [entry for entry in entries if entry.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise WeightsError(
            f"two plugins have weights named {name!r}: {matches[0].folder / INDEX} and {matches[1].folder / INDEX}; "
            "uninstall one, or limit what is loaded with AFMID_PLUGINS"
        )
    near = difflib.get_close_matches(name, [entry.name for entry in entries], 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"no weights {name!r}; {hint}list them with: afmid weights list")


def default(identifier: Identifier) -> WeightsEntry | None:
    """Return the entry that bears a method's name; None where its plugin lists none.

    Raises:
        WeightsError: where its weights.toml has an error.
    """
    index = identifier.weights_index
    if index is None or not index.exists():
        return None
    return next((entry for entry in read_index(index) if entry.name == identifier.name), None)


def copies(entry: WeightsEntry, cache: Path) -> list[Copy]:
    """Return the copies of a weights file on this machine, with their hashes; the one that is used first in front."""
    places = (("cached", entry.cached(cache)), ("shipped", entry.shipped))
    return [copy for place, path in places if (copy := _copy(entry, place, path))]


def _copy(entry: WeightsEntry, place: str, path: Path) -> Copy | None:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Copy(entry, place, path, sha256, file.tell())
    except OSError:
        return None  # what cannot be read is not there


def state(entry: WeightsEntry, cache: Path) -> str:
    """Return "damaged" where a copy has a wrong hash, else "cached", "shipped", or "missing" where there is none."""
    found = copies(entry, cache)
    if not all(copy.good for copy in found):
        return "damaged"
    return found[0].place if found else "missing"


def fetch(entry: WeightsEntry, *, cache: Path, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Return a verified copy of a weights file, in the cache; where that cannot be written, in the plugin.

    A good copy in the cache is taken at once; else the mirror is asked, then the plugin. `progress` is told
    (bytes that have come, bytes in all) of a download.

    Raises:
        WeightsError: the mirror or the plugin answers with another content (it names both hashes and the place),
            or the file is nowhere.
    """
    target = entry.cached(cache)
    if (found := _copy(entry, "cached", target)) and found.good:
        return target
    shipped = _copy(entry, "shipped", entry.shipped)
    if mirror:
        try:
            return _store(entry, target, mirror, progress)
        except (MirrorError, CacheError) as error:
            if not (shipped and shipped.good):
                raise
            if isinstance(error, MirrorError):
                log.warning("%s; using the copy that came with the plugin", error)
    if shipped is None:
        raise WeightsError(
            f"{entry.file} is neither in the cache nor with its plugin; set AFMID_WEIGHTS_URL to a mirror that has it, "
            f"or make your own: afmid train {entry.method}"
        )
    if not shipped.good:
        raise WeightsError(shipped.fault)
    try:
        return _store(entry, target, str(entry.folder.absolute()), None)
    except CacheError as error:
        log.info("%s; %s is used where it is", error, shipped.path)
        return shipped.path


def _store(entry: WeightsEntry, target: Path, mirror: str, progress: Progress | None) -> Path:
    """Put a mirror's file into the cache, unless it has the wrong hash."""
    tell = (lambda size: progress(size, entry.size)) if progress else None
    limit = max(entry.size, LIMIT)  # not the size itself: of a longer wrong file the hash can be told as well
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as beside:
            with beside.open("wb") as file:
                got = download(mirror, entry.file, file, limit=limit, progress=tell)
            if got.sha256 != entry.sha256:
                fault = _mismatch(got.origin, entry, got.sha256, got.size)
                raise WeightsError(f"{fault}; correct the mirror, or unset AFMID_WEIGHTS_URL")
    except (OSError, DataError) as error:
        reason = f"{target.parent}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise CacheError(f"the weights cache fails ({reason}); set AFMID_CACHE to another folder") from error
    log.info("%s comes from %s", entry.file, got.origin)
    return target


def _mismatch(where: str, entry: WeightsEntry, sha256: str, size: int) -> str:
    sizes = f" ({size} bytes instead of {entry.size})" if size != entry.size else ""
    return f"{where}: wrong file for {entry.name}: SHA-256 should be {entry.sha256}, is {sha256}{sizes}"


def export(entries: Sequence[WeightsEntry], folder: Path, *, cache: Path, mirror: str | None = None) -> list[Path]:
    """Write verified weights files and their weights.toml into a folder, which then serves as a mirror.

    Entries that the folder's weights.toml has already stay; those of the same name or file are replaced.

    Raises:
        WeightsError: where a file is nowhere or wrong.
        DataError: where the folder cannot be written.
    """
    index = folder / INDEX
    kept = read_index(index) if index.exists() else ()
    written = []
    for entry in entries:
        _write(folder / entry.file, fetch(entry, cache=cache, mirror=mirror).read_bytes())
        written.append(folder / entry.file)
    names, files = {entry.name for entry in entries}, {entry.file for entry in entries}
    write_index(index, [*(e for e in kept if e.name not in names and e.file not in files), *entries])
    return [*written, index]


def save_safetensors(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str], path: Path) -> None:
    """Write tensors and metadata, whole or not at all; the same content gives the same bytes.

    `metadata` must name "method" and "architecture", as `read_safetensors` asks for them.

    Raises:
        WeightsError: on metadata that lack a name, or values that are not finite.
        DataError: where the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    _check_names(path, metadata)
    _check_finite(path, tensors)
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    packed = save(whole)  # metadata would come in random order, so they enter the header here
    end = 8 + int.from_bytes(packed[:8], "little")
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **json.loads(packed[8:end])}).encode()
    header += b" " * (-len(header) % 8)
    _write(path, len(header).to_bytes(8, "little"), header, packed[end:])


def read_safetensors(
    path: Path, method: str, *, architecture: str | None = None
) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Return the tensors (on the CPU) and the metadata of a weights file.

    Where `architecture` is given, the file must bear the same. A network that older weights do not fit takes a new
    name; the file's version is what the message tells of, and decides nothing.

    Raises:
        WeightsError: where it is no safetensors file, is made for something else, or holds values that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            _check_names(path, metadata)
            for key, asked in (("method", method), ("architecture", architecture)):
                if asked is not None and metadata[key] != asked:
                    version = metadata.get("version", "unknown")
                    raise WeightsError(
                        f"{path}: made for {key} {metadata[key]!r}, not for {asked!r}; its version is {version}"
                    )
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise WeightsError(f"{path}: is no whole safetensors file ({error}); no other format is read") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    _check_finite(path, tensors)
    return tensors, metadata


def _check_names(path: Path, metadata: Mapping[str, str]) -> None:
    for key in ("method", "architecture"):
        if not metadata.get(key):
            raise WeightsError(f"{path}: its metadata name no {key}, so it is not a weights file of afmid")


def _check_finite(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite; the training has failed")


def _write(path: Path, *content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as beside, beside.open("wb") as file:
            file.writelines(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; give another place") from error

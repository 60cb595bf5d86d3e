"""Many molecules, one after the other: from files, folders, lists of SMILES and packs; each read in its turn."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count, islice
from pathlib import Path

from afmid.data.pack import MoleculePack, read_pack
from afmid.data.rows import Row, molecule_files, read_smiles_list
from afmid.errors import DataError, UsageError
from afmid.io.molecules import read_molecule
from afmid.io.stream import STREAM
from afmid.molecule import Molecule

log = logging.getLogger(__name__)

PACK = ".npz"
LISTS = re.compile(r"\.(csv|smi|smiles|txt)(\.gz)?$", re.I)
DIGITS = 6  # of the number of a molecule in a list or a pack, at least
LONGEST = 100  # letters of a name, which more is added to


@dataclass(frozen=True)
class Entry:
    """A molecule to come.

    Attributes:
        name: unique among the entries of a command, and fit for a file's name.
        what: what messages add to the name, such as its SMILES, or "".
        load: reads or embeds it; can be pickled, and called in another folder. Raises DataError.
        split, origin: of the list or pack that it is in, or "".
    """

    name: str
    what: str
    load: Callable[[], Molecule]
    split: str = ""
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.what})" if self.what else self.name


@dataclass(frozen=True)
class Source:
    """The molecules that one argument stands for.

    Attributes:
        count: how many there are.
        listed: yields them, at each call from the one of that number on; little is held in memory.
        hashed: returns the SHA-256 of the content, which is read for it.
        several: a folder, a list or a pack, however many it holds.
        at_hand: nothing is left to be read or embedded.
    """

    count: int
    listed: Callable[[int], Iterator[Entry]]
    hashed: Callable[[], str]
    several: bool = True
    at_hand: bool = False

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Yield the molecules from number `start` on."""
        return self.listed(start)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the content."""
        return self.hashed()


class _Names:
    """Gives each molecule a name of its own, in any case of the letters, for some file systems see none.

    A molecule of a list or pack is called STEM-000123; only such stems are remembered, not their members.
    """

    def __init__(self) -> None:
        self._single: set[str] = set()
        self._stems: set[str] = set()
        self._following: dict[str, int] = {}

    def single(self, name: str) -> str:
        """Return a name for one molecule."""
        return self._free(name, lambda free: free in self._single or _stem(free) in self._stems, self._single)

    def stem(self, name: str) -> str:
        """Return a name for the members of a list or pack to begin with."""
        stems = {_stem(single) for single in self._single}
        return self._free(name, lambda free: free in self._stems or free in stems, self._stems)

    def _free(self, name: str, clashes: Callable[[str], bool], taken: set[str]) -> str:
        name = re.sub(r"[^\w.+-]+", "_", name).strip("_.")[:LONGEST] or "molecule"
        for i in count(self._following.get(name.lower(), 1)):
            free = name if i == 1 else f"{name}-{i}"
            if not clashes(free.lower()):
                break
        self._following[name.lower()] = i + 1
        taken.add(free.lower())
        return free


def _stem(name: str) -> str:
    """Return what a name begins with that looks like a member's; a name that does not is its own."""
    return re.sub(rf"-\d{{{DIGITS},}}$", "", name)


def open_sources(
    texts: Sequence[str], split: str | None = None, known: Mapping[str, Molecule] | None = None
) -> list[Source]:
    """Return the molecules that each text stands for.

    A text is a molecule file, a folder of such files (in the order of their names), a list of SMILES, a molecule pack
    (each conformer), "-" for a molecule from stdin, a SMILES, or a name. Members of lists and packs are named by the
    file and their number from 0.

    Args:
        texts: as typed; a folder whose name is a molecule's too is meant where it is written with a slash.
        split: take of lists and packs only the molecules of this split, such as "test".
        known: molecules of texts, files, that have been read already.

    Raises:
        DataError: one of them is none of these, or holds no molecule.
        UsageError: stdin is named twice, or a split is asked of what has none.
    """
    if list(texts).count(STREAM) > 1:
        raise UsageError("stdin (-) can be read only once")
    names = _Names()
    known = known or {}
    sources = [
        _known_single(names.single(Path(text).stem.strip("-")), known[text])
        if text in known
        else _open(text, split, names)
        for text in texts
    ]
    if split is not None and not any(is_table(text) for text in texts):
        raise UsageError("--split is for lists of SMILES and molecule packs")
    return sources


def _open(text: str, split: str | None, names: _Names) -> Source:
    path = Path(text)
    if _is_folder(text):
        return _folder(path, names)
    if not _is_file(text):
        return _words(text, names)
    if path.suffix.lower() == PACK:
        return _pack(path, split, names)
    if LISTS.search(path.name):
        return _list(path, split, names)
    return _single(names.single(path.stem), _reading(path), lambda: _hash_of_files([path]))


def is_table(text: str) -> bool:
    """Return whether a text is the file of a list or a pack."""
    return _is_file(text) and bool(LISTS.search(text) or text.lower().endswith(PACK))


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists() and not Path(text).is_dir()
    except (OSError, ValueError):  # too long for a file name, or with a NUL
        return False


def _is_folder(text: str) -> bool:
    """Return whether a folder is meant: one is there, and its name alone is no molecule."""
    try:
        if not text.strip() or not Path(text).is_dir():
            return False
    except (OSError, ValueError):
        return False
    if "/" in text or "\\" in text or text.startswith("."):
        return True
    from afmid import chem

    try:
        if not chem.find_named(text):
            chem.formula(text)
    except DataError:
        return True
    log.warning("%s: read as a molecule; for the folder of that name write %s/", text, text)
    return False


def _words(text: str, names: _Names) -> Source:
    """Return the molecule from stdin, or that of a name or a SMILES; another text is refused at once."""
    from afmid import chem

    try:
        named = None if text == STREAM else chem.find_named(text)
        name = named[0] if named else chem.formula(text)
    except DataError:  # stdin, which other processes do not have; or nothing, and this says what was tried
        molecule = read_molecule(text)
        return _known_single(names.single(molecule.name or "molecule"), molecule)
    return _single(names.single(name), partial(read_molecule, text), lambda: _hash([text.encode()]))


def _folder(path: Path, names: _Names) -> Source:
    files = molecule_files(path, packed=False)
    stems = [names.single(file.stem) for file in files]

    def entries(start: int) -> Iterator[Entry]:
        for file, stem in zip(files[start:], stems[start:], strict=True):
            yield Entry(stem, "", _reading(file))

    return Source(len(files), entries, lambda: _hash_of_files(files))


def _list(path: Path, split: str | None, names: _Names) -> Source:
    def rows() -> Iterator[tuple[int, Row]]:
        return ((i, row) for i, row in enumerate(read_smiles_list(path)) if split is None or split.lower() == row.split)

    number = sum(1 for _ in rows())
    if not number:
        raise DataError(f"{path}: holds no molecules{f' of the split {split!r}' if split else ''}")
    stem = names.stem(LISTS.sub("", path.name))

    def entries(start: int) -> Iterator[Entry]:
        for i, row in islice(rows(), start, None):
            load = partial(_embedded, row.smiles, row.title)
            yield Entry(f"{stem}-{i:0{DIGITS}}", row.smiles[:80], load, row.split or "", row.source)

    return Source(number, entries, lambda: _hash(f"{i} {row}\n".encode() for i, row in rows()))


def _pack(path: Path, split: str | None, names: _Names) -> Source:
    pack: MoleculePack = read_pack(path)
    chosen = range(len(pack)) if split is None else pack.conformers(split).tolist()
    if not len(chosen):
        there = ", ".join(sorted(set(pack.split))) or "none"
        raise DataError(f"{path}: holds no molecules{f' of the split {split!r}; it has: {there}' if split else ''}")
    stem = names.stem(path.stem)

    def entries(start: int) -> Iterator[Entry]:
        for i in chosen[start:]:
            molecule, owner = pack.molecule(i), pack.molecule_index[i]
            load = partial(_known, molecule)
            yield Entry(f"{stem}-{i:0{DIGITS}}", molecule.smiles[:80], load, pack.split[owner], pack.source[owner])

    return Source(len(chosen), entries, lambda: _hash([f"{pack.sha256} {split}".encode()]), at_hand=True)


def _single(name: str, load: Callable[[], Molecule], hashed: Callable[[], str], at_hand: bool = False) -> Source:
    def entries(start: int) -> Iterator[Entry]:
        yield from [Entry(name, "", load)][start:]

    return Source(1, entries, hashed, several=False, at_hand=at_hand)


def _known_single(name: str, molecule: Molecule) -> Source:
    def hashed() -> str:
        arrays = molecule.numbers, molecule.positions, molecule.charges, molecule.bonds, molecule.orders
        return _hash(array.tobytes() for array in arrays)

    return _single(name, partial(_known, molecule), hashed, at_hand=True)


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}\n".encode() + part)
    return digest.hexdigest()


def _hash_of_files(paths: Iterable[Path]) -> str:
    """Return the hash of the names and contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _reading(path: Path) -> Callable[[], Molecule]:
    return partial(_read, path, Path.cwd())


def _read(path: Path, folder: Path) -> Molecule:
    """Return the molecule in a file that `folder` may be left for."""
    there = folder / path
    try:
        return read_molecule(there)
    except DataError as error:  # which is to name it as the user did
        raise DataError(str(error).replace(str(there), str(path), 1)) from error


def _known(molecule: Molecule) -> Molecule:
    return molecule


def _embedded(smiles: str, name: str) -> Molecule:
    from afmid import chem

    return chem.embed(smiles, name=name)

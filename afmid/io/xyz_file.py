"""xyz and extended xyz. Charges come from a column `charges`, or from a plain file's fifth column."""

import io
import re

import numpy as np

from afmid.errors import DataError
from afmid.molecule import SYMBOLS, Molecule

MAX_ATOMS = 100_000
MAX_PERCEIVED = 1000  # beyond this many atoms no bonds are looked for
MAX_COLUMNS = 200
COUNT = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")  # the first line
_COLUMNS = re.compile(r"[^\s:\"]+:[RISL]:([0-9]{1,3})(?::|$)")
CHARGES = ("charges", "initial_charges")
_NUMBERS = {symbol.lower(): number for number, symbol in enumerate(SYMBOLS) if number}


def from_text(text: str, name: str) -> Molecule:
    """Return the first molecule of an xyz file, whose first line is a `COUNT`; elements are symbols or atomic numbers.

    Bonds are perceived from the distances; charges that the file does not give are computed, with a warning where
    they are not MMFF94's.

    Raises:
        DataError: cut short, an unknown element, no atoms, too many, or a value that is no finite number.
    """
    lines = _checked(text)
    extended = re.search(r"\bProperties\s*=", lines[1], re.I)
    molecule, charged = (_extended if extended else _plain)(lines, name)
    if len(molecule) > MAX_PERCEIVED:
        return molecule
    from afmid import chem

    molecule = chem.perceive_bonds(molecule)
    return molecule if charged else chem.with_charges(molecule)


def count(text: str) -> int:
    """Return how many atoms the first line of an xyz file says. Raises DataError where it is no positive number."""
    return _count(_lines(text)[0])


def atoms_from_text(text: str, name: str) -> Molecule:
    """Return the atoms alone of a plain xyz file, without asking RDKit or ase for more. Raises DataError as above."""
    return _plain(_checked(text), name)[0]


def _checked(text: str) -> list[str]:
    """Return the lines of the first molecule of an xyz file."""
    lines = _lines(text)
    count = _count(lines[0])
    if count > MAX_ATOMS:
        raise DataError(f"holds {count} atoms; afmid reads up to {MAX_ATOMS}")
    if len(lines) < count + 2:
        raise DataError(f"says {count} atoms, holds {max(len(lines) - 2, 0)} lines of them; it looks cut short")
    return lines[: count + 2]


def _count(line: str) -> int:
    if not COUNT.fullmatch(line):
        raise DataError(f"is no xyz file: its first line is no number of atoms but {line[:80]!r}")
    if (count := int(line)) < 1:
        raise DataError(f"holds {count} atoms; a molecule needs at least one")
    return count


def _lines(text: str) -> list[str]:
    """Return the lines of a text, one at least; unlike str.splitlines, at ends of lines alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def to_text(molecule: Molecule) -> str:
    """Return `molecule` as extended xyz with a column `charges`; the comment carries its name and SMILES."""
    words = {"name": molecule.name, "smiles": molecule.smiles}
    comment = ["Properties=species:S:1:pos:R:3:charges:R:1", *(f"{key}={_quoted(v)}" for key, v in words.items() if v)]
    rows = [
        f"{symbol:2s} {x:16.8f} {y:16.8f} {z:16.8f} {charge:12.8f}"
        for symbol, (x, y, z), charge in zip(molecule.symbols, molecule.positions, molecule.charges, strict=True)
    ]
    return "\n".join([str(len(molecule)), " ".join(comment), *rows]) + "\n"


def _plain(lines: list[str], name: str) -> tuple[Molecule, bool]:
    rows = [line.split() for line in lines[2:]]
    for i, row in enumerate(rows, 3):
        if len(row) < 4:
            raise DataError(f"line {i} needs an element and three coordinates, is {lines[i - 1].strip()[:80]!r}")
    charged = all(len(row) > 4 and _is_number(row[4]) for row in rows)
    molecule = Molecule(
        numbers=np.array([_element(row[0], i) for i, row in enumerate(rows, 3)]),
        positions=np.array([[_number(word, i) for word in row[1:4]] for i, row in enumerate(rows, 3)]),
        charges=np.array([float(row[4]) for row in rows] if charged else []),
        name=name,
    )
    return molecule, charged


def _extended(lines: list[str], name: str) -> tuple[Molecule, bool]:
    import ase.io

    text = "\n".join([lines[0], f"Properties={_properties(lines[1])}", *lines[2:], ""])  # the rest is not for ase
    try:
        atoms = ase.io.read(io.StringIO(text), format="extxyz")
    except Exception as error:  # ase raises whatever its parser meets
        why = repr(str(error)[:100])
        raise DataError(f"its extended xyz cannot be read ({why}); check the Properties of line 2") from error
    numbers = np.asarray(atoms.numbers)
    if not numbers.all():
        symbol = lines[2 + int(np.argmin(numbers))].split()[0]
        raise DataError(f"atom {int(np.argmin(numbers)) + 1} is {symbol!r}, which is no element")
    given = [atoms.arrays[key] for key in CHARGES if key in atoms.arrays]
    if not given and atoms.calc is not None:  # where ase puts a column `charges`
        given = [atoms.calc.results[key] for key in CHARGES if key in atoms.calc.results]
    molecule = Molecule(
        numbers=numbers,
        positions=np.asarray(atoms.positions),
        charges=np.asarray(given[0] if given else [], np.float64),
        name=_word(lines[1], "name") or name,
        smiles=_word(lines[1], "smiles"),
    )
    return molecule, bool(given)


def _properties(comment: str) -> str:
    """Return the columns that a comment line declares, few enough that memory can be taken for them."""
    found = re.search(r"""\bProperties\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))""", comment, re.I)
    properties = next(filter(None, found.groups()), "") if found else ""
    counts = [int(count) for count in _COLUMNS.findall(properties)]
    if _COLUMNS.sub("", properties) or not counts:
        raise DataError(
            f"its extended xyz cannot be read (Properties={properties[:80]!r}); name each column as species:S:1:pos:R:3"
        )
    if sum(counts) > MAX_COLUMNS:
        raise DataError(f"declares {sum(counts)} columns; afmid reads up to {MAX_COLUMNS}")
    return properties


def _element(word: str, line: int) -> int:
    number = int(word) if word.isdecimal() and len(word) <= 3 else _NUMBERS.get(word.lower(), 0)
    if not 1 <= number < len(SYMBOLS):
        raise DataError(f"line {line} has the element {word[:20]!r}, which does not exist; write symbols such as Br")
    return number


def _number(word: str, line: int) -> float:
    if not _is_number(word):
        raise DataError(f"line {line} has {word[:20]!r} where a coordinate in Å should stand")
    return float(word)


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _word(comment: str, key: str) -> str:
    """Return the text of `key` in a comment line; ase would make a bool of hydrogen fluoride's SMILES, F."""
    found = re.search(rf'(?:^|\s){key}=(?:"((?:[^"\\]|\\.)*)"|(\S+))', comment)
    return re.sub(r"\\(.)", r"\1", found[1] or found[2] or "") if found else ""


def _quoted(word: str) -> str:
    return '"' + " ".join(word.replace("\\", "\\\\").replace('"', '\\"').split()) + '"'

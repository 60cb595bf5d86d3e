"""Text from files, as names, pictures and pages show it."""

LONGEST = 300  # letters


def line(text: object, longest: int = LONGEST) -> str:
    """Return text as one printable line of at most `longest` letters."""
    printable = (letter if letter.isprintable() else " " for letter in str(text).encode(errors="replace").decode())
    words = " ".join("".join(printable).split())
    return words if len(words) <= longest else words[: longest - 1] + "…"

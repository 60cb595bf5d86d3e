"""Which device computes."""

from afmid.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str = "auto") -> str:
    """Return "cpu", "cuda" or "mps"; "auto" takes the fastest that is there.

    Raises:
        UsageError: a name that does not exist, or a device that this machine does not have.
    """
    if name not in DEVICES:
        raise UsageError(f"no device {name!r}; there are: {', '.join(DEVICES)}")
    if name == "cpu":
        return name
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, works in there.items() if works)
    if not there[name]:
        raise UsageError(f"this machine has no {name}; use --device cpu, or see: afmid doctor")
    return name

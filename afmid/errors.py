"""The errors afmid raises on purpose. Each message says what was wrong, where, and what to do."""


class AfmidError(Exception):
    """What the user can mend. The command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class DataError(AfmidError):
    """A file or an array that does not hold what it should."""


class UsageError(AfmidError):
    """A name or an option that does not exist."""

    exit_code = 2


class PluginError(AfmidError):
    """A plugin that breaks the contract of its hooks."""


class WeightsError(AfmidError):
    """Pretrained weights that are missing, damaged, or made for something else."""

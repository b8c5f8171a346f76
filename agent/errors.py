"""The errors that users meet, as a tree.

GputallyError            one sentence that says what is wrong and what to do
├── SettingsError        a settings file, an environment variable or an argument is not understood
├── NvmlUnavailable      the driver, a GPU or a permission is missing; may come back
├── JournalError         the journal cannot be opened, read or written
│   └── JournalBroken    the file is not, or no longer, a sound journal
├── FrameError           the probe's pipe carried something that is not a frame
├── ReplayError          a recording cannot be understood
├── ReportError          the journal does not hold what a report asks for
└── StoreError           a store cannot be reached, refuses to answer, or does not hold what is asked for
"""


class GputallyError(Exception):
    """Base of all errors that end a command with one sentence instead of a traceback."""


class SettingsError(GputallyError):
    """A setting, environment variable or argument is not understood."""


class NvmlUnavailable(GputallyError):  # noqa: N818  the state of the machine, not a fault of ours
    """NVML cannot be used now: no driver, no GPU or no permission."""


class JournalError(GputallyError):
    """The journal cannot be opened, read or written."""


class JournalBroken(JournalError):  # noqa: N818  names a state of the file
    """The file is not, or no longer, a sound journal."""


class FrameError(GputallyError):
    """The pipe from the probe carried something that is not a frame."""


class ReplayError(GputallyError):
    """A recording cannot be understood."""


class ReportError(GputallyError):
    """The journal does not hold what a report asks for."""


class StoreError(GputallyError):
    """A store cannot be reached, refuses to answer, or does not hold what is asked for."""

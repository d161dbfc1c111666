"""All errors that lightalign raises on purpose.

The command line maps every `LightalignError` to one line and exit code 2; anything else is a bug
of ours and keeps its traceback. Each error also is the builtin that it resembles.

    LightalignError
    ├── SpecError (ValueError)                  an option, override or TOML table is wrong
    │   └── SourceOptionError                   an option of a dataset is
    ├── UnknownNameError (LookupError)          a registry has no such name
    ├── DatasetNotFoundError (FileNotFoundError)
    ├── DatasetFormatError (ValueError)         the files are there and say something else
    │   ├── UnknownColumnError                  no column of a table has a usual name
    │   └── SeveralTablesError                  nothing tells which table is meant
    ├── WeightsNotFoundError (FileNotFoundError)
    ├── WeightsMismatchError (ValueError)       the weights are not those of the card
    ├── DatasetChangedError (RuntimeError)      a file went away while it was being read
    ├── UnreadableItemError (ValueError)        one item cannot be decoded; extraction skips it
    │   └── MissingFileError                    its file is not there or not readable
    ├── TooManyBadItemsError (ValueError)       more unreadable items than `max_bad` allows
    ├── CompileError (RuntimeError)             an encoder cannot be compiled on this machine
    ├── OutOfMemoryError (MemoryError)          an encoder does not fit the memory
    ├── FeatureRangeError (ArithmeticError)     a feature is NaN or does not fit its dtype
    ├── StoreNotFoundError (FileNotFoundError)  no store answers the request
    ├── StoreIncompleteError (RuntimeError)     the store's extraction has not finished
    ├── StoreCorruptError (ValueError)          bytes on disk contradict the manifest
    ├── StoreInUseError (RuntimeError)          a living process or a run needs the store
    ├── DiskSpaceError (OSError)                the disk cannot hold what is to be written
    ├── LockError (OSError)                     the file system has no locks
    ├── DurabilityError (OSError)               the file system cannot make files durable
    ├── ResultLostError (OSError)               standard output does not take the result
    ├── RunInUseError (RuntimeError)            a living process writes the run, or it can go on
    ├── RunNotFoundError (FileNotFoundError)    no finished run answers the request
    ├── LeakageError (ValueError)               what is evaluated took part in the training
    ├── IndexNotFoundError (FileNotFoundError)  no saved index answers the request
    ├── StaleIndexError (RuntimeError)          the adapter or the features have changed since
    ├── MissingExtraError (ImportError)         a package of an optional extra is not installed
    ├── ExportError (RuntimeError)              a tower cannot be exported, or not faithfully
    ├── ProcessLostError (RuntimeError)         another process of a training has ended
    ├── DivergedError (ArithmeticError)         training produced a loss that is not finite
    ├── GradientError (RuntimeError)            what is to be trained receives no gradient
    └── DeviceError (RuntimeError)              the asked device is not there
"""


class LightalignError(Exception):
    """Mark an error that a user can act on."""


class SpecError(LightalignError, ValueError):
    """Reject an option, override or TOML table."""


class SourceOptionError(SpecError):
    """Reject an option of a dataset, or its value."""


class UnknownNameError(LightalignError, LookupError):
    """Reject a name that no registry holds."""


class DatasetNotFoundError(LightalignError, FileNotFoundError):
    """Report a dataset whose files are not where they were looked for.

    Args:
        problem: What is not there.
        advice: Sentences that follow in the message.
        lacking: The problem without the dataset's name and place, where it begins with them.

    Attributes:
        problem: As given, for messages with an advice of their own.
        lacking: As given, or the problem.
    """

    def __init__(self, problem: str, advice: str = "", *, lacking: str | None = None) -> None:
        super().__init__(f"{problem}. {advice}" if advice else problem)
        self.problem = problem
        self.lacking = problem if lacking is None else lacking


class DatasetFormatError(LightalignError, ValueError):
    """Report dataset files whose content cannot be understood."""


class UnknownColumnError(DatasetFormatError):
    """Report a table in which no column of a usual name tells what it holds."""


class SeveralTablesError(DatasetFormatError):
    """Report several tables of which none is named, and that are not one."""


class WeightsNotFoundError(LightalignError, FileNotFoundError):
    """Report an encoder whose weights were found nowhere."""


class WeightsMismatchError(LightalignError, ValueError):
    """Report weights whose shape or layout contradicts the encoder card."""


class UnreadableItemError(LightalignError, ValueError):
    """Report one item that cannot be decoded; extraction skips and lists it."""


class MissingFileError(UnreadableItemError):
    """Report one item whose file is not there or not readable."""


class DatasetChangedError(LightalignError, RuntimeError):
    """Report a dataset whose files are no longer those that a store's key stands for."""


class TooManyBadItemsError(LightalignError, ValueError):
    """Report more unreadable items than the spec allows."""


class CompileError(LightalignError, RuntimeError):
    """Report an encoder that cannot be compiled, or then gives other features."""


class OutOfMemoryError(LightalignError, MemoryError):
    """Report an encoder that needs more memory than there is."""


class FeatureRangeError(LightalignError, ArithmeticError):
    """Report a feature that is not a number or does not fit the stored dtype."""


class StoreNotFoundError(LightalignError, FileNotFoundError):
    """Report a request that no feature store answers."""


class StoreIncompleteError(LightalignError, RuntimeError):
    """Report a store whose extraction has not finished."""


class StoreCorruptError(LightalignError, ValueError):
    """Report bytes on disk that contradict the manifest."""


class StoreInUseError(LightalignError, RuntimeError):
    """Refuse to touch a store that a living process or a run needs."""


class DiskSpaceError(LightalignError, OSError):
    """Report a disk that cannot hold what is to be written."""


class LockError(LightalignError, OSError):
    """Report a file system on which processes cannot share work."""


class DurabilityError(LightalignError, OSError):
    """Report a file system on which nothing survives a loss of power for certain."""


class ResultLostError(LightalignError, OSError):
    """Report a result that nobody can read, as standard output does not take it."""


class RunInUseError(LightalignError, RuntimeError):
    """Refuse to touch a run that a living process writes, or that was stopped and can go on."""


class RunNotFoundError(LightalignError, FileNotFoundError):
    """Report a request that no finished run answers."""


class LeakageError(LightalignError, ValueError):
    """Refuse to evaluate on items that were trained on, or that chose the kept epoch."""


class IndexNotFoundError(LightalignError, FileNotFoundError):
    """Report a search for which no index has been saved."""


class StaleIndexError(LightalignError, RuntimeError):
    """Refuse an index of another adapter or of other features than there are now."""


class MissingExtraError(LightalignError, ImportError):
    """Report a package that only an optional extra brings."""


class ExportError(LightalignError, RuntimeError):
    """Report a tower that cannot be exported, or whose export gives other embeddings."""


class ProcessLostError(LightalignError, RuntimeError):
    """Report that another process of the same training has ended."""


class DivergedError(LightalignError, ArithmeticError):
    """Report a training loss that is not finite."""


class GradientError(LightalignError, RuntimeError):
    """Report parameters that are called trained and that no gradient reaches."""


class DeviceError(LightalignError, RuntimeError):
    """Report a device that this machine does not have."""


def one_line(error: Exception) -> str:
    """Return in one line, of 120 characters at most, why a library refuses what it reads."""
    return " ".join(str(error).split())[:120] or type(error).__name__

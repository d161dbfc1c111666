"""Where memory is lacking, also while libraries are imported, it is one line and no traceback."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from lightalign.featcache.memory_errors import lack_of_memory

from ..ends import forked

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks
EXTRACT = ["extract", "--encoder", "toy-image", "--data", "shapes", "--split", "test"]


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


LACKING = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError("libcudart.so: failed to map segment from shared object"),
    ImportError("libtorch_cpu.so: cannot allocate memory in static TLS block"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 bytes."),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("can't start new thread"),
    raised(ImportError("numpy is not there"), ImportError("x.so: failed to map segment")),
]


@pytest.mark.parametrize("error", LACKING, ids=repr)
def test_a_lack_of_memory_is_one_line_whatever_a_library_raises(error, tmp_path):
    def lacking() -> None:
        from lightalign.pipelines.extraction import extract

        def fail(*_: object) -> None:
            raise error

        extract.load_all = fail

    done = forked(*EXTRACT, home=tmp_path / "home", before=lacking)
    assert done.code == 2
    (line,) = (line for line in done.err.splitlines() if line.startswith("lightalign: "))
    assert line.startswith("lightalign: not enough memory")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError("no"), KeyError("memory"), SystemError("no")]
)
def test_other_errors_are_no_lack_of_memory(error):
    """A `SystemError` is one only where memory is limited."""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert lack_of_memory(error) is None


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("megabytes", [26, 250, 1500])
def test_under_a_small_limit_imports_end_in_one_line(megabytes, tmp_path):
    """Of the parser, of torch's first library, and of its largest."""
    size = megabytes * 2**20
    done = subprocess.run(
        [sys.executable, "-m", "lightalign", *EXTRACT],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "LIGHTALIGN_HOME": str(tmp_path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1

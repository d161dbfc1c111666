"""The rules about the code itself, checked by reading it."""

import ast
import functools
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import lightalign
from lightalign.featcache.documents import read_toml

PACKAGE = Path(lightalign.__file__).parent
PLACES = ("data", "featcache", "adapters", "pipelines", "cli")
CHECKOUT = Path(__file__).parent.parent


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules() -> list[Path]:
    return sorted(
        path
        for folder in PLACES
        for path in [*(PACKAGE / folder).rglob("*.py"), PACKAGE / f"{folder}.py"]
        if path.is_file()
    )


def test_the_package_imports_itself_relatively_only():
    """Ruff tells by the name of the checkout's folder whether a relative import is `lightalign`."""
    for path in modules():
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module)
            assert "lightalign" not in {name.partition(".")[0] for name in names}, path


def test_the_tests_import_one_another_relatively_only():
    """The wheel has no tests: `lightalign.tests` is there by luck of a checkout's name and path."""
    for path in (CHECKOUT / "tests").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.append(node.module)
            assert not [name for name in names if name.startswith("lightalign.tests")], path


def test_every_package_folder_is_listed_for_the_wheel():
    project = read_toml(CHECKOUT / "pyproject.toml")
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {"lightalign"} | {
        ".".join(["lightalign", *init.parent.relative_to(CHECKOUT).parts])
        for folder in PLACES
        for init in (CHECKOUT / folder).rglob("__init__.py")
    }
    assert found == listed


def test_every_package_folder_is_installed():
    """In CI the package is that of the built wheel."""
    in_checkout, installed = (
        {
            str(init.parent.relative_to(base))
            for place in PLACES
            for init in (base / place).rglob("__init__.py")
        }
        for base in (CHECKOUT, PACKAGE)
    )
    assert in_checkout == installed
    files_here, files_there = (
        {str(file.relative_to(base)) for place in PLACES for file in (base / place).rglob("*.py")}
        for base in (CHECKOUT, PACKAGE)
    )
    assert files_here == files_there


def test_every_data_file_of_the_checkout_is_installed():
    """Cards, presets, prompts and the page of a report; a new ending drops out of the wheel."""
    in_checkout, installed = (
        {
            file.relative_to(base)
            for file in [base / "py.typed", *(base / "data").rglob("*")]
            if file.is_file() and file.suffix != ".pyc"
        }
        for base in (CHECKOUT, PACKAGE)
    )
    assert in_checkout == installed
    assert {file.suffix for file in in_checkout} >= {".toml", ".jinja", ".typed"}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout


def test_the_command_line_imports_neither_torch_nor_numpy():
    heavy = ["torch", "numpy", "transformers", "timm", "h5py", "zarr", "faiss", "pyarrow"]
    imports = "import sys, lightalign.cli, lightalign.pipelines.commands.application"
    code = f"{imports}; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


LISTS = ("encoders", "datasets", "fusions", "presets", "prompts", "question-prompts")
LISTING = f"""
import sys, lightalign.cli
for name in {LISTS}:
    sys.argv = ["lightalign", "list", name, "--json"]
    try:
        lightalign.cli.main()
    except SystemExit as done:
        assert not done.code
    print("\\nafter", name, "torch" in sys.modules)
"""


def test_listing_needs_no_torch():
    said = [line for line in run_python(LISTING).splitlines() if line.startswith("after ")]
    assert said == [f"after {name} False" for name in LISTS]


BENCHMARKS = sorted((CHECKOUT / "tests" / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_imports(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    assert callable(runpy.run_path(str(path), run_name="imported")["main"])


def test_nothing_is_unpickled():
    for path in modules():
        for node in ast.walk(parsed(path)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called.split(".")[0] not in {"pickle", "joblib", "dill"}, path
            if called == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", path
            for keyword in getattr(node, "keywords", []):
                if keyword.arg == "trust_remote_code":
                    assert ast.unparse(keyword.value) == "False", path


def test_tables_and_consoles_are_made_where_text_is_made_printable():
    """Rich reads markup in strings, and passes control characters on to the terminal."""
    makers = {
        "cli.py",
        "pipelines/commands/_common.py",
        "pipelines/rendering/progress_bars.py",
        "pipelines/rendering/tables.py",
    }
    risky = re.compile(r"(?<!\w)(Table|Console)\(|console\.print\(|sys\.std\w+\.write\(")
    names = {str(path.relative_to(PACKAGE)): path for path in modules()}
    risked = [
        name
        for name, path in names.items()
        if name.startswith(("pipelines", "cli")) and risky.search(path.read_text())
    ]
    assert set(risked) <= makers

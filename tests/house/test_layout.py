"""The shape of the house: what is a package, what a wheel holds, where foreign libraries live, what stays out."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "evals" / "rteval"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): tree for path, tree in TREES.items()}

_LOCUST = {f"load/{name}.py" for name in ("bridge", "guest", "runners", "sockets", "swarm", "web")} | {"locust.py"}
ADDRESSES = {
    # library: where it may be imported; its exceptions end there
    "azure": {"client/auth.py"},
    "cryptography": {"simulator/"},
    "flask": _LOCUST,
    "faster_whisper": {"scorers/spoken.py"},
    "duckdb": {"analysis/history.py"},
    "gevent": _LOCUST,
    "greenlet": _LOCUST,
    "jinja2": {"reporting/"},
    "jiwer": {"scoring/words.py"},
    "locust": _LOCUST,
    "plotly": {"reporting/"},
    "psutil": _LOCUST,
    "pyarrow": {"analysis/", "reporting/", "judge.py"},
    "requests": {"scorers/chat.py"},
    "rich": {
        "progress.py",
        "cli.py",
        "run.py",
        "worker.py",
        "calibrate.py",
        "reporting/compare_text.py",
        "reporting/history_text.py",
    },
    "ruamel": {"scenario_yaml.py"},
    "soundfile": {"audio.py"},
    "soxr": {"audio.py"},
    "typer": {"cli.py"},
    "urllib3": {"scorers/chat.py"},
    "uvloop": {"station.py", "load/guest.py", "simulator/"},
    "webrtcvad": {"simulator/vad.py"},
    "websockets": {"client/transport.py", "simulator/"},
    "whisper_normalizer": {"scoring/normalize.py"},
    "zmq": _LOCUST,
}


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


IMPORTED = {path.relative_to(PACKAGE).as_posix(): set(imported(tree)) for path, tree in TREES.items()}


@pytest.mark.parametrize("library", ADDRESSES)
def test_a_foreign_library_has_one_address(library: str) -> None:
    homes = tuple(ADDRESSES[library])
    assert [name for name, libraries in IMPORTED.items() if library in libraries and not name.startswith(homes)] == []


@pytest.mark.parametrize("folder", ["evals", "datasets", "scenarios", "reports", "tests"])
def test_a_data_folder_is_no_package(folder: str) -> None:
    """``evals`` and ``datasets`` are names of other people's libraries."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_a_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"rteval"}
    files = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("rteval/")} == files
    assert "rteval/py.typed" in files


PUBLIC = {
    module: ast.literal_eval(node.value)
    for module, tree in MODULES.items()
    for node in tree.body
    if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
}


def borrowed(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file imports from another package of the house."""
    here = module_name(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            # A sub-package is one room: inside it, a name without an underscore may be the room's own business.
            if source.startswith("rteval") and (len(package) == 1 or source.split(".")[:2] != package[:2]):
                yield from ((source, alias.name) for alias in node.names)


def test_what_another_package_imports_is_public() -> None:
    """A module's ``__all__`` is what the rest of the house may rely on."""
    private = [
        f"{module_name(path)} imports {source}.{name}"
        for path in TREES
        for source, name in borrowed(path)
        if source in PUBLIC and name not in PUBLIC[source] and f"{source}.{name}" not in MODULES
    ]
    assert private == []


def test_every_module_says_what_it_is_for() -> None:
    assert [module for module, tree in MODULES.items() if not ast.get_docstring(tree)] == []


HEAVY = (
    "azure",
    "cryptography",
    "duckdb",
    "jinja2",
    "jiwer",
    "locust",
    "msal",
    "numpy",
    "pandas",
    "plotly",
    "pyarrow",
    "scipy",
)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option: str) -> None:
    """Somebody who asks for help should not wait for pandas."""
    code = (
        "import sys\nfrom rteval.cli import main\n"
        f"sys.argv = ['rteval', {option!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = sorted({{name.partition('.')[0] for name in sys.modules}} & {set(HEAVY)!r})\n"
        "sys.exit(f'imported {loaded}' if loaded else 0)"
    )
    env = os.environ | {"NO_COLOR": "1", "TERM": "dumb"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=env
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


def tracked() -> list[Path]:
    """What is, or with the next commit would be, in the repository."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT).as_posix(), content.decode("utf-8", "replace")


def test_no_lock_file_is_kept() -> None:
    """Lower bounds are what the package promises; a lock would hide that they hold."""
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "requirements.txt"}
    assert [path.name for path in tracked() if path.name in locks] == []


def test_no_path_of_a_developers_machine_is_in_the_tree() -> None:
    places = [str(ROOT), str(Path.home()), "/home" + "/", "/Users" + "/", "C:" + "\\Users"]
    # A checkout at / or a home at / names nobody's machine.
    pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(place.rstrip('/'))}/" for place in places if len(place) > 1))
    assert [(name, found[0]) for name, text in texts() if (found := pattern.search(text))] == []


def test_no_secret_is_in_the_tree() -> None:
    shapes = re.compile(
        r"\b(?:sk|ek)[-_][A-Za-z0-9_-]{32,}|-----BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_[A-Za-z0-9]{30,}"
        r"|\beyJ[\w-]{30,}\.[\w-]{30,}\.[\w-]{30,}"
    )
    assert [(name, found[0][:12]) for name, text in texts() if (found := shapes.search(text))] == []


def test_the_readme_and_ci_run_the_suite_with_the_same_line() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert ".venv/bin/pytest" in readme
    assert 'grep -F -- ".venv/bin/pytest" README.md' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_first_command_of_the_readme_stands_at_its_top() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert any("rteval run scenarios/support.yaml" in line for line in lines[:15])

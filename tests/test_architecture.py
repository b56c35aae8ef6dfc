"""The house keeps its shape: imports go down, light modules stay light, files say what they know."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Seven ranks, from the commands down. A room imports from itself, from the ranks below, and within its rank from the
# rooms named after it.
RANKS: tuple[tuple[str, ...], ...] = (
    ("__main__", "train", "diagnose", "reproduce", "report", "status", "__init__", "hydra_plugins"),
    ("reproduction", "search", "sweep", "reporting"),
    ("doctor", "records", "figures"),
    ("training",),
    ("probes", "model"),
    ("config", "data", "factors"),
    ("runtime", "errors"),
)
ORDER = {room: (rank, place) for rank, rooms in enumerate(RANKS) for place, room in enumerate(rooms)}
COMMANDS = set(RANKS[0])
# Stricter than the order alone: what a room imports never. A factor's table knows no other factor's.
FACTORS = ("activations", "initializers", "losses", "normalizers", "optimizers", "schedules")
NEVER = {
    "figures": {"training"},
    "factors": {f"factors.{name}" for name in FACTORS} | {"runtime.randomness"},
    **{room: {"reporting"} for room in ("reproduction", "search", "sweep")},  # a page is made by the command
}

HEAVY = ("torch", "lightning", "torchvision", "wandb", "pandas", "matplotlib", "sklearn", "numpy", "optuna", "pyarrow")


def room_of(module: str) -> str:
    """The room a dotted module name stands in; the package's own names are its ``__init__``."""
    package, _, rest = module.partition(".")
    if package == "hydra_plugins":
        return package
    return rest.split(".")[0] or "__init__"


def imported(tree: ast.AST, module: str, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of every module that the code imports: at any depth, relatively, or as text in a late import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module if module in PACKAGES else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known or (base == "mlp_study" and alias.name in ORDER):
                    yield node.lineno, inner
                elif not alias.name.startswith("__"):  # mlp_study.__version__ belongs to every room
                    yield node.lineno, base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "lazy_module", "__import__"}:
                yield node.lineno, str(node.args[0].value)


def allowed(importer: str, target: str) -> bool:
    room, other = room_of(importer), room_of(target)
    if {other, target.removeprefix("mlp_study.")} & NEVER.get(room, set()) or room not in ORDER or other not in ORDER:
        return False
    return ORDER[other] >= ORDER[room] or {room, other} <= COMMANDS


def violations(sources: dict[str, str]) -> list[str]:
    """One line for each import that goes up; ``sources`` maps dotted module names to their code."""
    found = []
    for module, source in sorted(sources.items()):
        if room_of(module) not in ORDER:
            found.append(f"{module}: its room is missing from RANKS")
        for line, target in imported(ast.parse(source), module, set(sources)):
            if target.split(".")[0] in {"mlp_study", "hydra_plugins"} and not allowed(module, target):
                found.append(f"{module}:{line} imports {target}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted([*(ROOT / "mlp_study").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])
PACKAGES = {module_name(path) for path in FILES if path.name == "__init__.py"}
SOURCES = {module_name(path): path.read_text() for path in FILES}


def test_imports_go_down_only():
    assert violations(SOURCES) == []


def bound(source: str) -> ast.Module:
    """The code without its imports for type checkers."""
    tree = ast.parse(source)
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return tree


def circles(sources: dict[str, str]) -> list[set[str]]:
    """Modules that import each other in a loop, late imports included; what only names a type binds nothing."""
    known = set(sources)
    arrows = {m: {t for _, t in imported(bound(s), m, known) if t in known and t != m} for m, s in sources.items()}
    reached = {module: set(targets) for module, targets in arrows.items()}
    for between in reached:  # Warshall's closure
        for module in reached:
            if between in reached[module]:
                reached[module] |= reached[between]
    loops = [{m} | {o for o in reached[m] if m in reached[o]} for m in reached if m in reached[m]]
    return [loop for place, loop in enumerate(loops) if loop not in loops[:place]]


def test_no_modules_import_each_other_in_a_circle():
    assert circles(SOURCES) == []


def test_a_circle_is_seen():
    code = {"mlp_study.a": "from mlp_study import b", "mlp_study.b": "import mlp_study.c", "mlp_study.c": "x = 1"}
    assert circles(code) == []
    code["mlp_study.c"] = "def late():\n    from mlp_study.a import x"
    assert circles({**code, "mlp_study.a": "from mlp_study.b import y"}) == [set(code)]


def lines_of(*places: str) -> int:
    """Lines of rooms or modules of the package, docstrings included; of all of it where none is named."""
    wanted = [f"mlp_study.{place}" for place in places] or ["mlp_study"]
    return sum(
        len(s.splitlines()) for name, s in SOURCES.items() if any(f"{name}.".startswith(f"{w}.") for w in wanted)
    )


def test_the_house_stays_small_enough_to_be_carried_on():
    """Budgets keep what has been reached; the aims are 7,500 lines for the core and 18,500 beside the doctor."""
    reading = ("train", "factors.activations", "model.population", "training.module", "probes.units")
    assert lines_of(*reading) <= 1_500
    assert lines_of("factors", "data", "config", "model", "probes", "training", "records") <= 8_700
    assert lines_of() - lines_of("doctor") <= 20_600


@pytest.mark.parametrize(
    ("module", "code", "found"),
    [
        ("mlp_study.data.images", "from mlp_study.training.results import Metrics", "mlp_study.training.results"),
        ("mlp_study.data.images", "def load():\n    import mlp_study.sweep.plan", "mlp_study.sweep.plan"),
        ("mlp_study.data.images", "if True:\n    from mlp_study.model import population", "mlp_study.model.population"),
        ("mlp_study.model.population", "from ..train import run", "mlp_study.train"),
        ("mlp_study.training.feed", "from ..train import main", "mlp_study.train"),
        ("mlp_study.data.images", "from mlp_study.config.schema import RunConfig", "mlp_study.config.schema"),
        (
            "mlp_study.config.schema",
            "module = importlib.import_module('mlp_study.model.population')",
            "mlp_study.model.population",
        ),
        ("mlp_study.records.store", "from mlp_study import load_run", "mlp_study"),
        ("mlp_study.figures", "from mlp_study.training import results", "mlp_study.training.results"),
        (
            "mlp_study.factors.losses",
            "from mlp_study.factors.activations import ACTIVATIONS",
            "mlp_study.factors.activations",
        ),
        ("mlp_study.errors", "from mlp_study.factors.table import Table", "mlp_study.factors.table"),
        ("mlp_study.sweep.plan", "from hydra_plugins.mlp_study import Sweeper", "hydra_plugins.mlp_study"),
        ("mlp_study.sweep.launch", "from mlp_study.reporting.make import PAGE", "mlp_study.reporting.make"),
    ],
)
def test_an_import_that_goes_up_is_found(module, code, found):
    known = {
        "mlp_study.training.results": "",
        "mlp_study.model.population": "",
        "mlp_study.train": "",
        "mlp_study.config.help": "",
        "mlp_study.reporting.make": "",
    }
    line = len(code.splitlines())
    assert violations({**known, module: code}) == [f"{module}:{line} imports {found}"]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("mlp_study.train", "from mlp_study import diagnose\nfrom mlp_study.sweep.plan import plan"),
        ("mlp_study.training.module", "from .results import Metrics\nfrom mlp_study import __version__"),
        (
            "mlp_study.factors.losses",
            "from mlp_study.factors.table import Table\nfrom mlp_study.errors import ConfigError",
        ),
        ("hydra_plugins.mlp_study", "def launch():\n    from mlp_study.sweep import launch"),
    ],
)
def test_an_import_that_goes_down_is_not(module, code):
    assert violations({module: code}) == []


def test_a_module_outside_every_room_is_found():
    assert violations({"mlp_study.attic": ""}) == ["mlp_study.attic: its room is missing from RANKS"]


LIGHT = [
    name
    for name in SOURCES
    if name
    in {"mlp_study", "mlp_study.config.schema", "mlp_study.config.help", "mlp_study.train", "hydra_plugins.mlp_study"}
    or room_of(name) in {"factors", "errors", "means", "signals"}
]


def heavy_after(statement: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after ``statement``."""
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_light_modules_import_nothing_heavy():
    assert heavy_after("import " + ", ".join(LIGHT)) == set(), LIGHT


def test_a_heavy_import_is_seen():
    assert "numpy" in heavy_after("import numpy")


def test_no_file_is_named_for_being_useful():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [name for name in SOURCES if vague & set(name.split("."))] == []


def long_functions(source: str, limit: int = 60) -> list[str]:
    """Functions of more than ``limit`` lines."""
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [node.name for node in functions if (node.end_lineno or node.lineno) - node.lineno + 1 > limit]


def test_modules_and_functions_can_be_read_in_one_sitting():
    assert [name for name, source in SOURCES.items() if len(source.splitlines()) > 400] == []
    assert {name: found for name, source in SOURCES.items() if (found := long_functions(source))} == {}


def test_a_long_function_is_seen():
    body = "    x = 1\n"
    assert long_functions("def short():\n" + body * 59 + "def long():\n" + body * 60) == ["long"]

"""The house's order and its plain rules, read from the source: imports, lengths, and what is not allowed anywhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("resim", "train", "eval", "data_prep", "benchmarks")

# Rows from left to right, one room each. A module may import from its own room and from any row to its left; a sub-room
# (simulation.generator) is part of its room. A new module must be given its place here.
ORDER: tuple[str, ...] = (
    "resim.entry_point",
    "resim.datatypes",
    "resim.motion",
    "resim.metrics",
    "resim.data",
    "resim.runtime",
    "resim.simulation",
    "resim.world_model",
    "resim.judges",
    "resim.imagination",
    "resim.gates",
    "resim.report",
    "resim.training",
    "resim.doctor resim.cli",
    "train eval data_prep benchmarks",
)
MAX_LOOSE_MODULES = 4

PLACES = {prefix: (row, room) for row, room in enumerate(ORDER) for prefix in room.split()}  # prefix -> (row, room)


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
TEST_FILES = {module_name(path): path for path in sorted((REPOSITORY / "tests").rglob("*.py"))}


def names_itself_only(tree: ast.Module) -> bool:
    """Whether a package's file is a docstring and constants, so that anyone may import it."""
    return all(isinstance(node, ast.Expr | ast.Assign) for node in tree.body)


PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py" and names_itself_only(TREES[name])}


def place(module: str) -> tuple[int, str]:
    """Row and room of a module, by its longest listed prefix. Packages that only name themselves stand leftmost."""
    if module in PACKAGES:
        return -1, module
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in PLACES:
            return PLACES[".".join(parts[:n])]
    raise KeyError(f"{module} has no place in ORDER of {Path(__file__).name}: add it to its row")


def imports(tree: ast.Module) -> Iterator[str]:
    """Names of our modules that a file imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the full name"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES or name in PLACES else str(node.module) for name in inside]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ROOMS)


def order_violations(module: str, tree: ast.Module) -> list[str]:
    row, room = place(module)
    places = {name: place(name) for name in imports(tree)}
    return [f"{module} imports {name}" for name, (r, m) in places.items() if r >= row and m != room]


@pytest.mark.parametrize("module", FILES)
def test_imports_only_to_the_left(module):
    assert order_violations(module, TREES[module]) == []


def test_few_modules_are_in_no_room():
    loose = [path.stem for path in (REPOSITORY / "resim").glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= MAX_LOOSE_MODULES, loose


def test_the_order_is_really_enforced():
    assert order_violations("resim.datatypes.clip", ast.parse("from resim.world_model import pipeline"))
    assert order_violations("resim.data.store", ast.parse("def f():\n    import resim.simulation.painter.painter"))
    assert order_violations("resim.datatypes.geometry", ast.parse("import train.train_world_model"))
    assert (
        order_violations("resim.simulation.painter.painter", ast.parse("from resim.datatypes.geometry import Camera"))
        == []
    )
    with pytest.raises(KeyError, match=r"resim\.attic\.things has no place"):
        place("resim.attic.things")


@pytest.mark.parametrize(("module", "path"), (FILES | TEST_FILES).items())
def test_lengths(module, path):
    source = path.read_text()
    limit = 150 if module == "train.train_world_model" else 400
    assert len(source.splitlines()) < limit
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length >= 60} == {}


def forbidden(tree: ast.Module) -> list[str]:
    """What the file does to swallow errors, unpickle, run a downloaded model's code or hide a model's inputs."""
    return [why for node in ast.walk(tree) if (why := reason(node))]


def reason(node: ast.AST) -> str | None:
    match node:
        case ast.ExceptHandler(type=None) | ast.ExceptHandler(type=ast.Name(id="Exception" | "BaseException")):
            return f"line {node.lineno}: blanket except"
        case ast.Import(names=names) if any(alias.name in {"pickle", "dill", "cloudpickle"} for alias in names):
            return "pickle"
        case ast.ImportFrom(module="pickle" | "dill" | "cloudpickle"):
            return "pickle"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=keywords):
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in keywords)
            return None if safe else "torch.load without weights_only=True"
        case ast.Call(func=ast.Attribute(attr="parse_known_args")):
            return "parse_known_args lets typing errors through"
        case ast.keyword(arg="trust_remote_code" | "allow_pickle", value=ast.Constant(value=True)):
            return "code or pickles from outside"
        case ast.FunctionDef(name="forward", args=ast.arguments(kwarg=ast.arg())):
            return "**kwargs in a forward"
    return None


@pytest.mark.parametrize("module", FILES)
def test_nothing_forbidden(module):
    assert forbidden(TREES[module]) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept Exception as e:\n    print(e)",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "def forward(self, x, **kwargs):\n    return x",
    ],
)
def test_forbidden_things_are_really_found(source):
    assert len(forbidden(ast.parse(source))) == 1
    assert forbidden(ast.parse("torch.load(path, weights_only=True)")) == []


def test_simulation_loads_no_torch():
    """It takes seconds to load, in every process that simulates."""
    script = "import sys; sys.path.insert(0, 'data_prep'); import simulate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False).returncode == 0

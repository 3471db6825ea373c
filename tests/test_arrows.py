"""Who may import whom: arrows run down only, and host code holds no device arrays."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "vlbert_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# Rooms and what each may import of this package besides its own room; a name that is not listed
# is a file of the trunk (train, state, checkpoint, ...), which may import every room below it.
BELOW = {"options", "terms"}
MAY_IMPORT = {
    "options": set(),
    "terms": set(),
    "config_file": {"options"},
    "config": BELOW | {"config_file", "tasks"},
    "data": BELOW,
    "tasks": BELOW | {"data"},
    "model": BELOW | {"config"},
    "losses": BELOW,
    "prepare": BELOW | {"data"},
}
COMMANDS = {"main", "report"}  # nothing imports them


def room(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path):
    """Rooms of this package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vlbert_jax":
            inner = node.module.split(".")[1:]
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "vlbert_jax" and len(name) > 1}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return found - {room(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_down(path):
    name = room(path)
    found = imports(path)
    if name in MAY_IMPORT:
        assert found <= MAY_IMPORT[name]
    assert not found & (COMMANDS - {name})


def test_no_circles():
    """The rooms can be put in an order in which each imports earlier ones only."""
    above = {}
    for path in FILES:
        above.setdefault(room(path), set()).update(imports(path))
    while above:
        free = [name for name, needs in above.items() if not needs & above.keys()]
        assert free, f"these import each other in a circle: {sorted(above)}"
        for name in free:
            del above[name]


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room(path) in ("data", "tasks")],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_host_code_makes_no_device_arrays_when_imported(path):
    """No jax in module-level statements: constants, defaults and decorators run in every worker."""
    tree = ast.parse(path.read_text())
    jax_names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                if "jax" in (module.split(".")[0], alias.name.split(".")[0]):
                    jax_names.add((alias.asname or alias.name).split(".")[0])
    for statement in at_import(tree):
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        assert not used & jax_names, f"line {statement.lineno} uses jax when imported"


def at_import(tree):
    """Parts of the module that run when it is imported: all but the bodies of functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            defaults = [*node.args.defaults, *node.args.kw_defaults]
            yield from [*node.decorator_list, *filter(None, defaults)]
        elif isinstance(node, ast.ClassDef):
            yield from node.decorator_list
            yield from at_import(node)
        else:
            yield node

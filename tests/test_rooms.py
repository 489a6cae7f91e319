"""Imports point only upward: a room may use itself and the rooms before it."""

import ast
from pathlib import Path

import dropkit

ROOT = Path(dropkit.__file__).parent
ROOMS = ("core", "kernels", "variants", "schedules", "catalog", "functional", "nn", "testing", "explain", "surgery",
         "inference", "audit", "study", "report", "lab", "integrations", "cli")
FACADE = ("__init__", "__main__")
# (file, room it may import from although it comes later): the reason stands beside it.
ALLOWED = {
    ("study/custom.py", "integrations"),  # a LightningModule is trained by Lightning, imported once there is one
    ("study/result.py", "report"),  # StudyResult.report() is a convenience that imports the page's room when it is called
}


def room_of(path):
    return path.parts[0].removesuffix(".py")


def dropkit_imports(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "dropkit")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that their direction can be read"
            if node.module == "dropkit":
                yield from (f"dropkit.{alias.name}" for alias in node.names)
            elif node.module and node.module.startswith("dropkit."):
                yield node.module


def wrong_imports(path, source):
    own = room_of(path)
    if own in FACADE:
        return []
    rooms = [name.split(".")[1] if "." in name else "__init__" for name in dropkit_imports(source)]
    return [f"{path}: {own} imports {room}" for room in rooms
            if (room not in ROOMS or ROOMS.index(room) > ROOMS.index(own)) and (path.as_posix(), room) not in ALLOWED]


def test_every_file_is_in_a_room():
    rooms = {room_of(file.relative_to(ROOT)) for file in ROOT.rglob("*.py")}
    assert rooms <= {*ROOMS, *FACADE}


def test_imports_point_upward():
    found = [wrong for file in sorted(ROOT.rglob("*.py"))
             for wrong in wrong_imports(file.relative_to(ROOT), file.read_text(encoding="utf-8"))]
    assert found == []


def test_a_downward_import_is_found():
    assert wrong_imports(Path("core/rates.py"), "from dropkit.study.result import Arm") == ["core/rates.py: core imports study"]
    assert wrong_imports(Path("core/rates.py"), "def f():\n    import dropkit.cli.main") == ["core/rates.py: core imports cli"]
    assert wrong_imports(Path("core/rates.py"), "import dropkit") == ["core/rates.py: core imports __init__"]
    assert wrong_imports(Path("study/arms.py"), "from dropkit.core.rates import check_rate") == []


def test_allowances_are_used():
    for place, room in ALLOWED:
        names = dropkit_imports((ROOT / place).read_text(encoding="utf-8"))
        assert room in {name.split(".")[1] for name in names}

"""The house: imports point one way only, and every module says what it is for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import larkdrop

HOUSE = Path(larkdrop.__file__).parent
# From the ground up: a room may import from rooms named before it, and from its own row.
FLOORS = (
    {"larkdrop"},
    {"errors", "record", "durable", "progress", "signals", "systemd"},
    {"settings", "backoff", "logs"},
    {"config"},
    {"lark", "folder"},
    {"index", "control"},
    {"keycache", "results"},
    {"recorder"},
    {"queue"},
    {"inflight"},
    {"worker", "intake"},
    {"answers"},
    {"service", "sandbox"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
# Rooms inside these know nothing of each other.
STRANGERS = ({"lark"}, {"folder"})


def room(module: str) -> str:
    """The room a module lies in."""
    return module.split(".")[1] if "." in module else module


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module's dotted name and its syntax tree."""
    for path in sorted(HOUSE.rglob("*.py")):
        name = ".".join(["larkdrop", *path.relative_to(HOUSE).with_suffix("").parts]).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules of the house that a tree imports from, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("larkdrop"):
            if node.module in {"larkdrop", "larkdrop.lark", "larkdrop.folder"}:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if (HOUSE / Path(*name.split(".")[1:])).with_suffix(".py").exists()
                            or (HOUSE / name.split(".")[1]).is_dir() else node.module for name in names)  # fmt: skip
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("larkdrop"))


def floor(name: str) -> int:
    """The floor of a room, counted from the ground."""
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_imports_point_down_only() -> None:
    """No room imports from a higher one, and lark/ and folder/ don't know each other."""
    for name, tree in modules():
        for imported in imports(tree):
            assert floor(room(imported)) <= floor(room(name)), f"{name} imports {imported}"
            for stranger in STRANGERS:
                if room(name) in stranger:
                    assert not ({room(imported)} & {"lark", "folder"} - stranger), f"{name} imports {imported}"


def test_only_the_transport_knows_requests() -> None:
    """One boundary translates transport errors."""
    for name, tree in modules():
        used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        used |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert name == "larkdrop.lark.transport" or not {"requests", "urllib3"} & {
            module.split(".")[0] for module in used
        }


def test_every_module_says_its_job_in_one_line() -> None:
    """A reader finds the room by its docstring."""
    for name, tree in modules():
        docstring = ast.get_docstring(tree)
        assert docstring, name
        assert docstring.splitlines()[0][-1] in ".:?", name


def test_the_readmes_picture_names_every_room() -> None:
    """The picture of the house in the README is the house."""
    readme = (HOUSE.parents[1] / "README.md").read_text(encoding="utf-8")
    for name, _ in modules():
        last = name.split(".")[-1]
        if last not in {"larkdrop", "__main__"} and ".commands." not in name:
            assert f"{last}.py" in readme or f"{last}/" in readme, f"{name} is missing in the README's picture"

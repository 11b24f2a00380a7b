"""Imports point one way only, and every module says what it is for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import larkdrop

PACKAGE = Path(larkdrop.__file__).parent
# From the ground up: a layer imports from those before it, and from its own.
LAYERS = (
    {"larkdrop", "errors"},
    {"config"},
    {"records"},
    {"lark", "folder"},
    {"pipeline", "fleet", "sandbox"},
    {"service"},
    {"commands", "cli", "__main__"},
)
# These know nothing of each other.
STRANGERS = ({"lark", "folder"}, {"pipeline", "fleet", "sandbox"})
# What the sandbox may know: how the platform answers and what it takes.
OF_THE_PLATFORM = {"larkdrop.lark.accepted_images", "larkdrop.lark.client"}


def layer(module: str) -> int:
    """The layer of a module, counted from the ground."""
    return next(number for number, names in enumerate(LAYERS) if part(module) in names)


def part(module: str) -> str:
    """The package, or the module at the root, that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module's dotted name and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(["larkdrop", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules of larkdrop that a tree imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("larkdrop"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                place = PACKAGE.joinpath(*name.split(".")[1:])
                yield name if place.is_dir() or place.with_suffix(".py").exists() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("larkdrop"))


def test_imports_point_down_only() -> None:
    """No layer imports from a higher one, and strangers don't import each other."""
    for name, tree in modules():
        for imported in imports(tree):
            assert layer(imported) <= layer(name), f"{name} imports {imported}"
            for strangers in STRANGERS:
                if {part(name), part(imported)} <= strangers:
                    assert part(name) == part(imported), f"{name} imports {imported}"


def test_the_sandbox_knows_the_platform_only() -> None:
    """It is the judge of the client, and shares nothing with it but the platform's addresses and limits."""
    for name, tree in modules():
        if part(name) == "sandbox":
            assert {one for one in imports(tree) if part(one) != "sandbox"} <= OF_THE_PLATFORM


def test_only_the_transport_knows_requests() -> None:
    """One boundary translates transport errors."""
    for name, tree in modules():
        used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        used |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert name == "larkdrop.lark.transport" or not {"requests", "urllib3"} & {
            module.split(".")[0] for module in used
        }


def test_every_module_says_its_job_in_one_line() -> None:
    """A reader finds the right one by its docstring."""
    for name, tree in modules():
        docstring = ast.get_docstring(tree)
        assert docstring, name
        assert docstring.splitlines()[0][-1] in ".:?", name


def test_the_picture_is_the_tree() -> None:
    """docs/architecture.md names every package and module, and nothing that is not there."""
    text = (PACKAGE.parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
    picture = text.split("```text\n", 1)[1].split("```", 1)[0]
    drawn, folder = set(), ""
    for line in picture.splitlines()[1:]:
        name = line.split()[0] if line.strip() else ""
        if name.endswith("/"):
            folder = name
            drawn.add(name)
        elif name.endswith(".py"):
            drawn.add(f"{folder if line.startswith(' ' * 4) else ''}{name}")
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    there |= {f"{path.relative_to(PACKAGE)}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert drawn == there

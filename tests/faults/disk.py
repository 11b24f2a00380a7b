"""A disk that loses power: a process's system calls, as strace tells them, and what a cut after any of them leaves.

POSIX at its worst: of a file, what was written before the last fsync or fdatasync of it is there; of a folder, the
names that it had at its last fsync. Whether anything else is there, whole or in part, is up to the disk.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat", "close", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "mkdir", "link", "linkat", "rename",
    "renameat", "renameat2", "unlink", "unlinkat", "lseek",
)  # fmt: skip
# Calls that would change a disk, and that the model does not know: where one is seen, the model says so.
UNKNOWN = (
    "open", "creat", "writev", "pwritev", "pwritev2", "truncate", "fallocate", "mkdirat", "rmdir", "symlink",
    "symlinkat", "sendfile", "copy_file_range", "splice", "dup", "dup2", "dup3",
)  # fmt: skip


@dataclass(eq=False)
class File:
    """``durable`` is what was synced; ``pending`` what was done since: bytes at an offset, or a new size."""

    label: str
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def synced(self, count: int) -> None:
        """The first of what was pending is durable."""
        self.durable = _written(self.durable, self.pending[:count])
        del self.pending[:count]

    def now(self) -> bytes:
        """As the process sees it."""
        return _written(self.durable, self.pending)


@dataclass(eq=False)
class Folder:
    """The same for names; each pending change is made whole or not at all: a rename is one change of two names."""

    label: str
    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[dict[str, Node | None]] = field(default_factory=list)

    def synced(self, count: int) -> None:
        """The first of what was pending is durable."""
        self.durable = _named(self.durable, self.pending[:count])
        del self.pending[:count]

    def now(self) -> dict[str, Node]:
        """As the process sees it."""
        return _named(self.durable, self.pending)


Node = File | Folder


def _written(data: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    made = bytearray(data)
    for at, new in changes:
        made = made[:at] if new is None else made
        made.extend(bytes(max(0, at - len(made))))
        if new is not None:
            made[at : at + len(new)] = new
    return bytes(made)


def _named(names: dict[str, Node], changes: list[dict[str, Node | None]]) -> dict[str, Node]:
    made: dict[str, Node | None] = dict(names)
    for change in changes:
        made |= change
    return {name: node for name, node in made.items() if node}


@dataclass
class _Open:
    node: Node | None  # None where it is not on this disk
    appends: bool = False
    at: int = 0


@dataclass
class _Call:
    name: str
    arguments: list[str]
    result: int = -1
    pending: int = 0  # of a sync: how much was pending when it began


class Disk:
    """The folder ``home`` and all below it, as a process changes it call by call."""

    def __init__(self, home: Path, lost: Callable[[Node], bool] = lambda _node: False) -> None:
        """What stands below ``home`` has durable names; so has its content, apart from pictures just dropped.

        ``lost`` tells which files' or folders' syncs are to do nothing.
        """
        self.home = str(home)
        self.root = Folder(self.home)
        self._lost = lost
        self._open: dict[int, _Open] = {}
        for path in sorted(home.rglob("*")):
            parent = self._find(str(path.parent))
            assert isinstance(parent, Folder)
            if path.is_dir():
                parent.durable[path.name] = Folder(str(path))
            elif path.suffix == ".png":
                parent.durable[path.name] = File(str(path), pending=[(0, path.read_bytes())])
            else:
                parent.durable[path.name] = File(str(path), durable=path.read_bytes())

    def play(self, trace: str) -> Iterator[None]:
        """Do the calls of a trace; pauses after each that changed what a cut may leave."""
        running: dict[str, _Call] = {}
        for line in trace.splitlines():
            begun = re.match(r"(\d+) +(\w+)\((.*?)(?:\) += (-?\d+|\?).*| <unfinished \.\.\.>)$", line)
            ended = re.match(r"(\d+) +<\.\.\. \w+ resumed>.*\) += (-?\d+|\?)", line)
            if begun:
                thread, name, arguments, result = begun.groups()
                assert name not in UNKNOWN, line
                call = running[thread] = _Call(name, arguments.split(", "))
                self._begin(call)
            elif ended:
                thread, result = ended.groups()
                call = running[thread]
            else:
                assert re.match(r"\d+ (\+\+\+|---) ", line), line
                continue
            if result and result.isdigit():
                call.result = int(result)
                if self._end(call):
                    yield

    def _begin(self, call: _Call) -> None:
        if call.name == "close":  # another thread may get the number before strace tells that it ended
            self._open.pop(int(call.arguments[0]), None)
        elif call.name in {"fsync", "fdatasync"} and (node := self._node(call)):
            call.pending = len(node.pending)

    def _end(self, call: _Call) -> bool:
        """Whether anything on this disk changed."""
        name, words = call.name, call.arguments
        if name == "openat":
            return self._opened(call)
        if name in {"fsync", "fdatasync"}:
            node = self._node(call)
            if node and not self._lost(node):
                node.synced(call.pending)
            return node is not None
        if name in {"write", "pwrite64", "ftruncate", "lseek"}:
            return self._written(call)
        if name == "mkdir":
            return self._change({self._path(words[0]): Folder(self._path(words[0]))})
        if name in {"unlink", "unlinkat"}:
            return self._change({self._path(*words[:-1] if name == "unlinkat" else words): None})
        if name in {"link", "linkat"}:
            old, new = (words[:1], words[1:2]) if name == "link" else (words[:2], words[2:4])
            number = re.fullmatch(r"/proc/self/fd/(\d+)", _text(old[-1]))
            node = self._open[int(number[1])].node if number else self._find(self._path(*old))
            return self._change({self._path(*new): node})
        if name in {"rename", "renameat", "renameat2"}:
            old, new = (words[:1], words[1:2]) if name == "rename" else (words[:2], words[2:4])
            return self._change({self._path(*new): self._find(self._path(*old)), self._path(*old): None})
        return False

    def _opened(self, call: _Call) -> bool:
        path, flags = self._path(*call.arguments[:2]), call.arguments[2].split("|")
        node = self._find(path)
        changed = False
        if "O_TMPFILE" in flags:
            node = File("nameless") if isinstance(node, Folder) else None
        elif "O_CREAT" in flags and node is None:
            changed = self._change({path: File(path)})
            node = self._find(path)
        elif "O_TRUNC" in flags and isinstance(node, File):
            node.pending.append((0, None))
            changed = True
        self._open[call.result] = _Open(node, "O_APPEND" in flags)
        return changed

    def _written(self, call: _Call) -> bool:
        opened = self._open.get(int(call.arguments[0]))
        if not opened or not isinstance(opened.node, File):
            return False
        if call.name == "lseek":
            opened.at = call.result
            return False
        if call.name == "ftruncate":
            opened.node.pending.append((int(call.arguments[1]), None))
            return True
        data = _bytes(call.arguments[1])[: call.result]
        if call.name == "pwrite64":
            at = int(call.arguments[3])
        else:
            at = len(opened.node.now()) if opened.appends else opened.at
            opened.at = at + len(data)
        opened.node.pending.append((at, data))
        return True

    def _node(self, call: _Call) -> Node | None:
        opened = self._open.get(int(call.arguments[0]))
        return opened.node if opened else None

    def _change(self, names: dict[str, Node | None]) -> bool:
        by_folder: dict[Folder, dict[str, Node | None]] = {}
        for path, node in names.items():
            folder, _, name = path.rpartition("/")
            parent = self._find(folder)
            if isinstance(parent, Folder):
                by_folder.setdefault(parent, {})[name] = node
        for parent, change in by_folder.items():
            parent.pending.append(change)
        return bool(by_folder)

    def _path(self, *words: str) -> str:
        """The path that a call names: ``"path"``, or a descriptor and a name in it."""
        path = _text(words[-1])
        if path.startswith("/") or len(words) == 1 or words[0] == "AT_FDCWD":
            return path
        opened = self._open.get(int(words[0]))
        return f"{opened.node.label}/{path}".removesuffix("/.") if opened and opened.node else path

    def _find(self, path: str) -> Node | None:
        node: Node | None = self.root
        if path != self.home and not path.startswith(f"{self.home}/"):
            return None
        for part in path[len(self.home) :].split("/")[1:]:
            node = node.now().get(part) if isinstance(node, Folder) else None
        return node


# What a cut leaves of a file and of a folder.
Left = tuple[Callable[[File], bytes], Callable[[Folder], dict[str, Node]]]


def nothing_unsynced() -> Left:
    """Only what was synced."""
    return (lambda file: file.durable), (lambda folder: folder.durable)


def everything() -> Left:
    """All that was done, as after a kill."""
    return File.now, Folder.now


def names_and_sizes() -> Left:
    """Every name and size, but NULs in place of what was not synced: the journal was faster than the data."""

    def sizes(file: File) -> bytes:
        left = file.durable
        for at, new in file.pending:
            left = left[:at] if new is None else left
            left = left.ljust(at + len(new or b""), b"\0")
        return left

    return sizes, Folder.now


def anything(dice: random.Random) -> Left:
    """Of all that was not synced, any part: a write cut at any byte, or NULs before it; any of the names."""

    def torn(file: File) -> bytes:
        changes: list[tuple[int, bytes | None]] = []
        for at, new in file.pending:
            part = dice.choice([0.0, 0.5, 1.0])
            if part and new is not None:
                cut = dice.randrange(len(new) + 1) if part < 1 else len(new)
                changes.append((at, new[:cut]) if dice.random() < 0.7 else (at + cut, new[cut:]))
            elif part:
                changes.append((at, new))
        return _written(file.durable, changes)

    def some(folder: Folder) -> dict[str, Node]:
        return _named(folder.durable, [change for change in folder.pending if dice.random() < 0.5])

    return torn, some


def files_left(root: Folder, left: Left) -> dict[str, bytes]:
    """What a cut leaves: the content by path below the root; a folder is a path that ends with a slash."""
    content, names = left
    made: dict[str, bytes] = {}

    def walk(folder: Folder, path: str) -> None:
        for name, node in names(folder).items():
            if isinstance(node, Folder):
                made[f"{path}{name}/"] = b""
                walk(node, f"{path}{name}/")
            else:
                made[f"{path}{name}"] = content(node)

    walk(root, "")
    return made


def _text(word: str) -> str:
    return _bytes(word).decode("utf-8", "surrogateescape")


def _bytes(word: str) -> bytes:
    assert word.startswith('"'), word
    assert word.endswith('"'), f"a string is cut: {word[-40:]}"
    return bytes.fromhex(word[1:-1].replace("\\x", ""))

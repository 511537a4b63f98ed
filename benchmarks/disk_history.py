"""What a process did to files, and every disk that a power cut could have left of it.

The history is recorded by `strace`, from outside: each write, rename, truncation, unlink, change
of a folder and fsync, with its data. What a disk holds after a cut is what POSIX promises, and no
more: the data of a file survive an fsync of that file, its name an fsync of its folder. Everything
else may be missing, whatever came later; data may also be torn at any byte, or read as zeros.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,lseek,rename,renameat,renameat2,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,ftruncate,link,linkat,sendfile,copy_file_range"
)
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_RESULT = re.compile(r"\) += (-?\d+)[^=]*$")
_PAGE = 4096

Disk = dict[str, bytes | None]
"""Contents by path, relative to the root; None of a folder."""


@dataclass(frozen=True)
class Write:
    """Bytes that were written into a file at an offset."""

    inode: int
    offset: int
    data: bytes | memoryview


@dataclass(frozen=True)
class Resize:
    """A file was truncated, or made longer with zeros."""

    inode: int
    size: int


@dataclass(frozen=True)
class Hole:
    """A file has become as long as a write made it, and none of the data is there."""

    inode: int
    size: int


@dataclass(frozen=True)
class Names:
    """Names in folders that came to mean another file, or none, all at once."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Sync:
    """An fsync of a file or a folder; when it began, what comes before `covers` had been done."""

    inode: int
    covers: int


Operation = Write | Resize | Hole | Names | Sync


@dataclass
class History:
    """Operations in their order, on a folder as it was before.

    Attributes:
        initial: What was there, and is on the disk.
        stable: Folders, relative to the root, in which all survives: another machine's.
        operations: What was done.
        paths: The path that each operation was about when it was done.
    """

    initial: Disk
    stable: tuple[str, ...] = ()
    operations: list[Operation] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Give what is there its inodes."""
        self.contents: dict[int, bytearray] = {}
        self.folders: dict[int, dict[str, int]] = {0: {}}
        for path in sorted(self.initial):
            data = self.initial[path]
            parent, name = self.parent(path)
            self.folders[parent][name] = self._new(None if data is None else bytearray(data))
        self._first_names = {inode: dict(names) for inode, names in self.folders.items()}
        self._first_contents = {inode: bytes(data) for inode, data in self.contents.items()}
        self._synced_by: list[float] = []

    def _new(self, data: bytearray | None) -> int:
        inode = len(self.contents) + len(self.folders)
        if data is None:
            self.folders[inode] = {}
        else:
            self.contents[inode] = data
        return inode

    def find(self, path: str) -> int | None:
        """Return what a path means now."""
        inode = 0
        for part in PurePosixPath(path).parts:
            found = self.folders.get(inode, {}).get(part)
            if found is None:
                return None
            inode = found
        return inode

    def parent(self, path: str) -> tuple[int, str]:
        """Return the folder of a path and its name there."""
        place = PurePosixPath(path)
        inode = self.find(str(place.parent)) if place.parent.parts else 0
        if inode is None:
            raise ValueError(f"{path} lies in no folder that is known")
        return inode, place.name

    def add(self, operation: Operation, path: str) -> None:
        """Note an operation, and do it."""
        before = self.operations[-1] if self.operations else None
        if (
            isinstance(operation, Write)
            and isinstance(before, Write)
            and operation.inode == before.inode
            and operation.offset == before.offset + len(before.data)
            and not path.endswith(".jsonl")  # each line may be missing alone
        ):
            # A file that is written in parts: a torn write is the cut between two of them.
            data = bytes(before.data) + operation.data
            self.operations[-1] = Write(before.inode, before.offset, data)
        else:
            self.operations.append(operation)
            self.paths.append(path)
        _do(operation, self.contents, self.folders)

    def create(self, path: str, *, is_folder: bool = False) -> int:
        """Note a new file or folder."""
        inode = self._new(None if is_folder else bytearray())
        self.add(Names(((*self.parent(path), inode),)), path)
        return inode

    def is_stable(self, number: int) -> bool:
        """Tell whether an operation survives by itself."""
        return self.paths[number].startswith(self.stable) if self.stable else False

    def survives(self, number: int, cut: int) -> bool:
        """Tell whether an operation is on the disk for certain, when power fails before `cut`."""
        if len(self._synced_by) != len(self.operations):
            self._synced_by = self._find_syncs()
        return number < cut and (self.is_stable(number) or self._synced_by[number] < cut)

    def _find_syncs(self) -> list[float]:
        found = [math.inf] * len(self.operations)
        waiting: dict[int, list[int]] = {}
        for number, operation in enumerate(self.operations):
            if isinstance(operation, Sync):
                done = waiting.get(operation.inode, [])
                for each in done:
                    if each < operation.covers:
                        found[each] = min(found[each], number)
                waiting[operation.inode] = [each for each in done if each >= operation.covers]
                found[number] = number
            elif isinstance(operation, Names):
                # A name that moves between folders survives with its new one.
                waiting.setdefault(operation.changes[0][0], []).append(number)
            else:
                waiting.setdefault(operation.inode, []).append(number)
        return found

    def pending(self, cut: int) -> list[int]:
        """Return the operations before `cut` that may or may not be on the disk."""
        return [number for number in range(cut) if not self.survives(number, cut)]

    def disk(self, cut: int, kept: Mapping[int, Operation]) -> Disk:
        """Return what is on the disk after a cut.

        Args:
            cut: Operations that had been done, from the first one on.
            kept: What there is of the pending ones; the others are missing.
        """
        contents = {inode: bytearray(data) for inode, data in self._first_contents.items()}
        folders = {inode: dict(names) for inode, names in self._first_names.items()}
        for inode in self.folders:
            folders.setdefault(inode, {})
        for number in range(cut):
            if number in kept:
                _do(kept[number], contents, folders)
            elif self.survives(number, cut):
                _do(self.operations[number], contents, folders)
        return dict(self._walk(0, "", contents, folders))

    def _walk(
        self,
        folder: int,
        place: str,
        contents: Mapping[int, bytearray],
        folders: Mapping[int, Mapping[str, int]],
    ) -> Iterator[tuple[str, bytes | None]]:
        for name, inode in folders[folder].items():
            path = f"{place}{name}"
            if inode in self.folders:
                yield path, None
                yield from self._walk(inode, f"{path}/", contents, folders)
            else:
                yield path, bytes(contents.get(inode, b""))

    def synced(self, inode: int, cut: int) -> bytes:
        """Return the data of a file that an fsync has covered, whatever its name."""
        contents = {inode: bytearray(self._first_contents.get(inode, b""))}
        for number in range(cut):
            operation = self.operations[number]
            is_of_it = isinstance(operation, (Write, Resize)) and operation.inode == inode
            if is_of_it and self.survives(number, cut):
                _do(operation, contents, {})
        return bytes(contents[inode])

    def files_at_start(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield paths and inodes of the files of a name that were there before."""
        for path in self.initial:
            if PurePosixPath(path).name == name:
                inode = 0
                for part in PurePosixPath(path).parts:
                    inode = self._first_names[inode][part]
                yield path, inode

    def cuts(self) -> list[int]:
        """Return the moments at which a cut may leave another disk than before.

        Of a stable folder, only those at which a file takes or loses its name: it is another
        machine's, and is not cut off itself.
        """
        found = [
            number
            for number, operation in enumerate(self.operations)
            if not self.is_stable(number) or isinstance(operation, Names)
        ]
        return [*found, len(self.operations)]

    def states(
        self, cut: int, draw: random.Random, most: int
    ) -> tuple[list[dict[int, Operation]], bool]:
        """Choose what a cut leaves of the pending operations.

        Returns:
            Choices for `disk`, and whether they are all there are.
        """
        pending = self.pending(cut)
        kinds = {number: _kinds(self.operations[number], draw) for number in pending}
        # Of each: what is left of it, or None.
        if math.prod(len(each) for each in kinds.values()) <= most:
            product = itertools.product(*kinds.values())
            return [_chosen(pending, choice) for choice in product], True
        whole = [kinds[number][1] for number in pending]
        choices: list[Sequence[Operation | None]] = [[None] * len(pending), whole]
        for place, number in enumerate(pending):
            for each in kinds[number]:
                if each is not kinds[number][1]:
                    choices.append([*whole[:place], each, *whole[place + 1 :]])
            choices.append([*[None] * place, whole[place], *[None] * (len(pending) - place - 1)])
        if len(choices) > most:
            choices = [*choices[:2], *draw.sample(choices[2:], most // 2)]
        while len(choices) < most:
            choices.append([draw.choice(kinds[number]) for number in pending])
        return [_chosen(pending, choice) for choice in choices], False


def _chosen(pending: list[int], choice: Sequence[Operation | None]) -> dict[int, Operation]:
    return {n: each for n, each in zip(pending, choice, strict=True) if each is not None}


def _kinds(operation: Operation, draw: random.Random) -> list[Operation | None]:
    """Return what may be left of an operation: nothing, all of it, or else a part."""
    kinds: list[Operation | None] = [None, operation]
    if isinstance(operation, Write):
        offset, data = operation.offset, operation.data
        page = (offset + len(data) - 1) // _PAGE * _PAGE - offset
        torn = {draw.randrange(1, len(data)) if len(data) > 1 else 0, page} - {0}
        view = memoryview(data)  # a training's files are large, and the choices many
        kinds += [Write(operation.inode, offset, view[:end]) for end in sorted(torn) if end > 0]
        kinds.append(Hole(operation.inode, offset + len(data)))
    return kinds


def _do(
    operation: Operation, contents: dict[int, bytearray], folders: dict[int, dict[str, int]]
) -> None:
    if isinstance(operation, Write):
        data = contents.setdefault(operation.inode, bytearray())
        if len(data) < operation.offset:
            data.extend(bytes(operation.offset - len(data)))
        data[operation.offset : operation.offset + len(operation.data)] = operation.data
    elif isinstance(operation, (Resize, Hole)):
        data = contents.setdefault(operation.inode, bytearray())
        data.extend(bytes(max(0, operation.size - len(data))))
        if isinstance(operation, Resize):
            del data[operation.size :]
    elif isinstance(operation, Names):
        for folder, name, inode in operation.changes:
            if inode is None:
                folders[folder].pop(name, None)
            else:
                folders[folder][name] = inode


def snapshot(root: Path) -> Disk:
    """Read a folder."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def restore(disk: Disk, root: Path) -> None:
    """Make a folder what a disk says."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o700)
    for path, data in sorted(disk.items()):
        if data is None:
            (root / path).mkdir(mode=0o700)
        else:
            (root / path).write_bytes(data)


def digest(disk: Disk) -> str:
    """Return a checksum of a disk."""
    total = hashlib.sha256()
    for path, data in sorted(disk.items()):
        total.update(f"{path}\0{-1 if data is None else len(data)}\0".encode() + (data or b""))
    return total.hexdigest()


def record(command: Sequence[str], root: Path, stable: tuple[str, ...], log: Path) -> History:
    """Run a command to its end, and return what it did in a folder.

    Raises:
        RuntimeError: The command failed.
        FileNotFoundError: `strace` is missing.
    """
    history = History(snapshot(root), stable)
    trace = log.with_suffix(".strace")
    options = ["-f", "-y", "--seccomp-bpf", "-xx", "-s", str(2**27), "-e", f"trace={_CALLS}"]
    with log.open("ab") as output:
        code = subprocess.run(
            ["strace", *options, "-o", str(trace), *command], stdout=output, stderr=output
        ).returncode
    if code:
        raise RuntimeError(f"{command} ended with {code}: {log.read_text()[-4000:]}")
    with trace.open() as lines:
        _read(lines, history, str(root))
    trace.unlink()
    left = snapshot(root)
    known = history.disk(len(history.operations), dict(enumerate(history.operations)))
    if known != left:
        names = [name for name in {*known, *left} if known.get(name, 0) != left.get(name, 0)]
        raise RuntimeError(f"the history does not lead to what is there: {sorted(names)[:10]}")
    return history


def _read(lines: Iterator[str], history: History, root: str) -> None:
    opened: dict[str, int] = {}
    offsets: dict[str, int] = {}
    begun: dict[str, tuple[str, int]] = {}
    hexed = "".join(f"\\x{each:02x}" for each in os.fsencode(root + "/"))
    inside = (hexed, hexed[:-4] + '"', hexed[:-4] + ">")
    for line in lines:
        found = _LINE.match(line.rstrip("\n"))
        if found is None:
            continue
        thread, _, text = found.groups()
        covers = len(history.operations)
        if found[2]:
            first, covers = begun.pop(thread, ("", 0))
            text = first + text
        elif text.endswith("<unfinished ...>"):
            begun[thread] = (text.removesuffix("<unfinished ...>").rstrip(), covers)
            continue
        result = _RESULT.search(text) or re.search(r"\) += (-?\d+)", text)
        if result is None or int(result[1]) < 0 or not any(each in text for each in inside):
            continue
        name, _, rest = text.partition("(")
        call = _Call(history, root, opened, offsets, rest, int(result[1]), covers)
        call.note(name)


@dataclass
class _Call:
    """A system call that succeeded, by its text."""

    history: History
    root: str
    opened: dict[str, int]
    offsets: dict[str, int]
    text: str
    result: int
    covers: int

    def note(self, name: str) -> None:
        if name in ("open", "openat", "creat"):
            self._open()
        elif name in ("write", "writev", "pwrite64", "pwritev"):
            data = b"".join(_bytes(each) for each in _STRING.findall(self.text))[: self.result]
            place = re.search(r", (\d+)\) +=", self.text) if name.startswith("p") else None
            self._write(self._descriptor(), data, int(place[1]) if place else None)
        elif name == "lseek":
            self.offsets[self._descriptor()] = self.result
        elif name in ("sendfile", "copy_file_range"):
            self._copy(name)
        elif name.startswith("rename") or name.startswith("link"):
            self._rename(is_link=name.startswith("link"))
        elif name.startswith(("unlink", "rmdir")):
            (path,) = self._paths()
            if path:
                folder, last = self.history.parent(path)
                self.history.add(Names(((folder, last, None),)), path)
        elif name.startswith("mkdir"):
            (path,) = self._paths()
            if path:
                self.history.create(path, is_folder=True)
        elif name in ("fsync", "fdatasync"):
            inode = self.opened.get(self._descriptor())
            if inode is not None:
                self.history.add(Sync(inode, self.covers), self._path_of_descriptor())
        elif name == "ftruncate":
            inode = self.opened[self._descriptor()]
            size = int(re.search(r", (\d+)\)", self.text)[1])  # type: ignore[index]
            self.history.add(Resize(inode, size), self._path_of_descriptor())

    def _relative(self, path: str) -> str | None:
        path = os.path.normpath(path)
        return path[len(self.root) + 1 :] if path.startswith(self.root + "/") else None

    def _paths(self) -> list[str | None]:
        """Return the paths in the arguments, each after the folder that it is relative to."""
        names = [os.fsdecode(_bytes(each)) for each in _STRING.findall(self.text)]
        bases = [os.fsdecode(_bytes(each)) for _, each in _DESCRIPTOR.findall(self.text)]
        bases += [self.root] * (len(names) - len(bases))
        return [
            self._relative(os.path.join(base, name))
            for base, name in zip(bases, names, strict=False)
        ]

    def _descriptor(self, place: int = 0) -> str:
        number, path = _DESCRIPTOR.findall(self.text)[place]
        return f"{number} {path}"

    def _path_of_descriptor(self, place: int = 0) -> str:
        path = os.fsdecode(_bytes(_DESCRIPTOR.findall(self.text)[place][1]))
        return self._relative(path) or ""

    def _open(self) -> None:
        found = _DESCRIPTOR.findall(self.text.rpartition(" = ")[2])
        if not found:
            return
        number, hexed = found[0]
        path = self._relative(os.fsdecode(_bytes(hexed)))
        if path is None:
            if os.fsdecode(_bytes(hexed)) == self.root:
                self.opened[f"{number} {hexed}"] = 0
            return
        inode = self.history.find(path)
        if inode is None:
            if "O_CREAT" not in self.text:
                return
            inode = self.history.create(path)
        elif "O_TRUNC" in self.text and self.history.contents.get(inode):
            self.history.add(Resize(inode, 0), path)
        key = f"{number} {hexed}"
        self.opened[key] = inode
        self.offsets[key] = -1 if "O_APPEND" in self.text else 0

    def _write(self, key: str, data: bytes, offset: int | None, place: int = 0) -> None:
        inode = self.opened.get(key)
        if inode is None or not data:
            return
        at = self.offsets[key] if offset is None else offset
        if at < 0:
            at = len(self.history.contents[inode])
        elif offset is None:
            self.offsets[key] = at + len(data)
        self.history.add(Write(inode, at, data), self._path_of_descriptor(place))

    def _copy(self, name: str) -> None:
        """Copy within the kernel, from the file that the history knows."""
        out, source = (0, 1) if name == "sendfile" else (1, 0)
        key, inode = self._descriptor(out), self.opened.get(self._descriptor(source))
        if key not in self.opened or not self.result:
            return
        if inode is None:
            path = os.fsdecode(_bytes(_DESCRIPTOR.findall(self.text)[source][1]))
            content = Path(path).read_bytes()
        else:
            content = bytes(self.history.contents[inode])
        start = re.search(r"\[(\d+)\]", self.text)
        begin = int(start[1]) if start else self.offsets.get(self._descriptor(source), 0)
        if not start:
            self.offsets[self._descriptor(source)] = begin + self.result
        self._write(key, content[begin : begin + self.result], None, out)

    def _rename(self, *, is_link: bool) -> None:
        old, new = self._paths()
        history = self.history
        if old is None or new is None:
            raise ValueError("a file was moved into the folder, or out of it")
        inode = history.find(old)
        changes: list[tuple[int, str, int | None]] = [(*history.parent(new), inode)]
        if not is_link:
            changes.append((*history.parent(old), None))
        history.add(Names(tuple(changes)), new)


def _bytes(hexed: str) -> bytes:
    return bytes.fromhex(hexed.replace("\\x", ""))

"""A parser of Dockerfiles that executes their install lines in a folder, without a container runtime."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Absolute paths of the image that a build writes to, which must not be paths of this machine.
_BUILT = re.compile(r"(?<![\w.])/(?=(?:opt|src|dist)\b)")
_FLAG = re.compile(r"--([\w-]+)=(\S+)\s+")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Instruction:
    """One instruction. `flags` are the options of the builder (--from, --mount)."""

    name: str
    flags: tuple[tuple[str, str], ...]
    rest: str

    @classmethod
    def read(cls, line: str) -> Instruction:
        name, rest = line.split(maxsplit=1)
        flags = []
        while found := _FLAG.match(rest):
            flags.append((found[1], found[2]))
            rest = rest[found.end() :]
        return cls(name, tuple(flags), rest)

    @property
    def sources(self) -> list[str]:
        """The stages whose files the instruction uses."""
        found = []
        for flag, value in self.flags:
            if flag == "mount":
                mount = dict(part.split("=") for part in value.split(","))
                assert mount["source"] == mount["target"], "stages share one folder here"
                found.append(mount["from"])
            elif flag == "from":
                found.append(value)
        return found


@dataclass(frozen=True)
class Stage:
    """The instructions after one FROM. `base` is another stage or an image."""

    base: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> str:
        return self.all(name)[-1].rest

    def command(self, name: str) -> list[str]:
        """Return the list in ENTRYPOINT, CMD or HEALTHCHECK."""
        command: list[str] = json.loads(self.last(name).removeprefix("CMD "))
        return command

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for env in self.all("ENV") for pair in env.rest.split())


def instructions_of(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile in order."""
    lines = (line.strip() for line in text.splitlines())
    joined = " ".join(
        line.removesuffix("\\") if line.endswith("\\") else f"{line}\n"
        for line in lines
        if line and not line.startswith("#")
    )
    return [Instruction.read(line.strip()) for line in joined.splitlines()]


def arguments_of(text: str) -> dict[str, str]:
    """Return the build arguments before the first stage, with their defaults."""
    arguments = itertools.takewhile(lambda each: each.name == "ARG", instructions_of(text))
    return dict(argument.rest.split("=", 1) for argument in arguments)


def stages_of(text: str) -> dict[str, Stage]:
    """Return the named stages of a Dockerfile in order."""
    arguments = arguments_of(text)
    found: dict[str, tuple[str, list[Instruction]]] = {}
    for instruction in instructions_of(text)[len(arguments) :]:
        if instruction.name == "FROM":
            base, _, name = instruction.rest.split()
            found[name] = _VARIABLE.sub(lambda one: arguments[one[1]], base), []
        else:
            found[name][1].append(instruction)
    return {name: Stage(base, tuple(instructions)) for name, (base, instructions) in found.items()}


@dataclass(frozen=True)
class Replay:
    """Executes stages with the interpreter `python`. All stages share the folder `root` as file system."""

    stages: Mapping[str, Stage]
    context: Path
    root: Path
    python: Path

    def build(self, target: str, kept: tuple[str, ...] = ()) -> None:
        """Leave in `root` what the image of `target` adds to its base image, and the folders `kept`."""
        for name in dict.fromkeys(self._needed(target)):
            folder = self.root
            for instruction in self.stages[name].instructions:
                if instruction.name == "WORKDIR":
                    folder = Path(self.inside(instruction.rest))
                    folder.mkdir(parents=True, exist_ok=True)
                elif instruction.name == "COPY":
                    self._copy(instruction, folder)
                elif instruction.name == "RUN":
                    self._run(instruction.rest, folder)
        copied = [one.rest.split()[-1] for one in self.stages[target].all("COPY") if one.sources]
        wanted = {Path(self.inside(path)) for path in [*copied, *kept]}
        for path in [*self.root.iterdir(), *self.root.glob("opt/*")]:
            if not any(one.is_relative_to(path) for one in wanted):
                shutil.rmtree(path)

    def inside(self, text: str) -> str:
        """Return `text` with paths of the image replaced by paths in `root`."""
        return _BUILT.sub(f"{self.root}/", text)

    def _needed(self, target: str) -> Iterator[str]:
        stage = self.stages[target]
        sources = (name for one in stage.instructions for name in one.sources)
        for name in dict.fromkeys([stage.base, *sources]):
            if name in self.stages:
                yield from self._needed(name)
        yield target

    def _copy(self, instruction: Instruction, folder: Path) -> None:
        *sources, target = instruction.rest.split()
        if instruction.sources:
            assert sources == [target], "stages share one folder here"
            return
        for source in (self.context / name for name in sources):
            into = folder / target
            if target.endswith("/"):
                into.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, into, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(source, into)

    def _run(self, command: str, folder: Path) -> None:
        tools = self.root / "tools"
        tools.mkdir(exist_ok=True)
        for name, meant in {"python": self.python, "pip": f"{sys.executable} -m pip"}.items():
            script = tools / name
            script.write_text(f'#!/bin/sh\nexec {meant} "$@"\n')
            script.chmod(0o755)
        # pip would treat packages on PYTHONPATH as installed.
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            ["/bin/sh", "-c", self.inside(command)],
            cwd=folder,
            env={**outside, "PATH": f"{tools}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"

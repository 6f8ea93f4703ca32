"""Start of both processes: import the other modules of this folder from source texts.

`python -I -S -c BOOTSTRAP SOURCES ROLE DESCRIPTOR LIMITS`, where SOURCES is a JSON object of module names and texts.
"""

import importlib
import json
import sys
import types
from importlib.machinery import ModuleSpec


class SourceTexts:
    """Importer of modules from their texts, by full name."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a module that has a text, else None."""
        return ModuleSpec(name, self) if name in self._texts else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system create the module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the text of a module."""
        name = module.__name__
        exec(compile(self._texts[name], name, "exec"), vars(module))  # noqa: S102 - our own text


if __name__ == "__main__":
    package = sys.modules["inside"] = types.ModuleType("inside")
    package.__path__ = []
    sys.meta_path.insert(0, SourceTexts(json.loads(sys.argv[1])))
    importlib.import_module("inside.main").main(*sys.argv[2:])

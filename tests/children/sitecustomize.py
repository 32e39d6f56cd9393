"""Python imports this at its start in the processes that tests start, which are faster with it."""

import gc
import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

gc.set_threshold(50_000, 20, 50)  # as in tests/conftest.py

LATER = {"seaborn", "matplotlib.pyplot"}
"""What gymnax imports, and uses for pictures alone: a second of every process."""


class Later(ModuleType):
    """A module that is really imported when something of it is used."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        LATER.discard(self.__name__)
        del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class Finder:
    """Finds such a module, and loads it."""

    def find_spec(self, name, path, target=None):
        return ModuleSpec(name, self) if name in LATER else None

    def create_module(self, spec):
        return Later(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())

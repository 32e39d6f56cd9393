"""Imports single environments of JaxMARL.

`import jaxmarl` prints two lines, imports every environment that there is, and runs JAX code.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

from jaxdrl.core.dtype_promotion import default_promotion

PACKAGES = ("jaxmarl", "jaxmarl.environments")
"""Packages whose own code is not needed for the environments in them."""

SPECIAL = {"__all__", "__version__"}
"""Special names that the code of a package may define."""


class Deferred(types.ModuleType):
    """A package whose own code runs when something is asked of it that is not one of its modules.

    Whoever uses `jaxmarl` in the same process finds it as it would be otherwise.
    """

    def __getattr__(self, name: str) -> Any:
        full = f"{self.__name__}.{name}"
        if name.startswith("__") and name not in SPECIAL:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if importlib.util.find_spec(full) is not None:
            return importlib.import_module(full)
        self.__class__ = types.ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


def import_environment(name: str) -> Any:
    """The module `jaxmarl.environments.NAME`, without the code of the packages around it."""
    for package in PACKAGES:
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            module = importlib.util.module_from_spec(spec)
            module.__class__ = Deferred
            sys.modules[package] = module
            parent, _, child = package.rpartition(".")
            if parent:  # which the import system would do
                setattr(sys.modules[parent], child, module)
    with default_promotion():  # its modules run JAX code when they are imported
        return importlib.import_module(f"jaxmarl.environments.{name}")

"""Puts off the import of packages that another package imports and seldom uses."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Modules that are imported within the block are loaded when something of them is first used.

    Those that are loaded already, and imports after the block, are as ever.
    """
    proxies = {name: _Deferred(name) for name in names if name not in sys.modules}
    sys.modules.update(proxies)
    try:
        yield
    finally:
        for proxy in proxies.values():
            proxy.give_way()


class _Deferred(ModuleType):
    """Stands for a module in the packages that imported it."""

    def give_way(self) -> None:
        """Lets others import the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, attribute: str) -> Any:
        self.give_way()
        return getattr(importlib.import_module(self.__name__), attribute)

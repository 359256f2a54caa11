"""Cirrus: an event-driven coordinator of Docker jobs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cirrus.client import Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> object:
    """The client is loaded when it is first asked for: `import cirrus` alone stays cheap."""
    if name == "Client":
        return import_module("cirrus.client").Client
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)

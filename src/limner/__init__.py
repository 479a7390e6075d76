"""Limner keeps a living portrait of every user, and recommends from it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("limner")
except PackageNotFoundError:
    __version__ = "0+unknown"

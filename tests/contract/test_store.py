"""Every backend of the store passes one contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from limner.stores import Store
from limner.stores.memory import MemoryStore
from limner.stores.sqlite import SqliteStore
from limner.testing.contracts import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = SqliteStore(tmp_path / "shop.db")
        yield store
        store.close()


class TestSqliteStoreOpenedAgain(StoreContract):
    opened: list[SqliteStore]

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        self.opened = [SqliteStore(tmp_path / "shop.db")]
        yield self.opened[0]
        self.opened[-1].close()

    def reopen(self, store: Store) -> Store:
        store.close()
        self.opened.append(SqliteStore(self.opened[0].path))
        return self.opened[-1]


class TestSqliteStoreWithFilesToFindRowsBy(TestSqliteStoreOpenedAgain):
    """Every commit moves what rows are found by into files."""

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("LOOKUP_ROWS", "SPILL_ROWS"):
            monkeypatch.setattr(f"limner.stores.sqlite_log.{name}", 1)

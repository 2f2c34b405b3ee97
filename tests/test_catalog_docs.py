"""``docs/catalog.md`` names every table, view and column that there is, and no other."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from helpers_catalog import new_catalog
from sqlite_utils import Database

from sightline.indexer.catalog import NewEmbeddings, Thumbnails

PAGE = Path(__file__).resolve().parent.parent / "docs" / "catalog.md"


def sections() -> dict[str, str]:
    """The text below each heading of the third level."""
    parts = re.split(r"^##+ (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_docs_describe_every_table_view_and_column(tmp_path: Path) -> None:
    catalog, _ = new_catalog(tmp_path)
    catalog.close()
    Thumbnails.open_or_create(tmp_path / "thumbnails.db").close()
    NewEmbeddings.create(
        tmp_path / "reencoding.db", model="m", revision="1", dimension=4, identity="i"
    ).close()
    described = sections()
    known = set()
    for name in ("catalog.db", "reencoding.db", "thumbnails.db"):
        with closing(Database(tmp_path / name)) as database:
            for table in [*database.table_names(), *database.view_names()]:
                if table.startswith(("_sqlite", "sqlite_", "words_")):
                    continue
                known.add(table)
                assert table in described, f"{table} is not described"
                named = set(re.findall(r"`(\w+)`", described[table]))
                columns = {column.name for column in database[table].columns}
                assert not columns - named, f"{table}: {columns - named} not described"
    headings = {name for name in described if re.fullmatch(r"[a-z_]+", name)}
    assert headings == known, "something is described that is not there"


def test_docs_name_every_row_of_meta(tmp_path: Path) -> None:
    catalog, _ = new_catalog(tmp_path)
    with catalog, closing(Database(catalog.path)) as database:
        names = {row["name"] for row in database["meta"].rows}
    assert names <= set(re.findall(r"`(\w+)`", sections()["meta"]))


def test_sql_examples_of_the_docs_run(tmp_path: Path) -> None:
    catalog, _ = new_catalog(tmp_path)
    examples = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(examples) == 2
    with catalog, closing(Database(catalog.path)) as database:
        for example in examples:
            list(database.query(example))


def test_datasette_metadata_names_existing_tables(tmp_path: Path) -> None:
    """Tables, facets, orders and queries of ``docs/datasette.yaml``. Tried with Datasette 0.65."""
    import yaml

    told = yaml.safe_load((PAGE.parent / "datasette.yaml").read_text(encoding="utf-8"))
    catalog, _ = new_catalog(tmp_path)
    with catalog, closing(Database(catalog.path)) as database:
        known = {*database.table_names(), *database.view_names()}
        tables = told["databases"][catalog.path.stem]["tables"]
        assert set(tables) <= known
        assert set(database.view_names()) <= set(tables), "say what the view is for"
        for name, facts in tables.items():
            columns = {column.name for column in database[name].columns}
            asked = {*facts.get("facets", ()), facts.get("sort_desc", next(iter(columns)))}
            assert asked <= columns, name
        for query in told["databases"]["catalog"]["queries"].values():
            list(database.query(query["sql"], {"words": "castle"}))

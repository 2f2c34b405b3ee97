"""The tables of a library's SQLite files, as migrations.

Append only: a released migration never changes, and tests migrate from every earlier version. All
pending migrations run in one transaction. ``docs/catalog.md`` describes the resulting tables.
"""

from __future__ import annotations

from sqlite3 import Connection

from sightline.indexer.catalog import full_text
from sightline.indexer.catalog.store import Migrations

catalog = Migrations("catalog")
thumbnails = Migrations("thumbnails")
new_embeddings = Migrations("new_embeddings")


@catalog
def images_and_embeddings(db: Connection) -> None:
    """Images, their folders and their embeddings."""
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    db.execute(
        """CREATE TABLE roots (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL UNIQUE,
            added_at TEXT NOT NULL
        )"""
    )
    db.execute(
        """CREATE TABLE folders (
            id INTEGER PRIMARY KEY,
            root_id INTEGER NOT NULL REFERENCES roots (id),
            path TEXT NOT NULL,
            folded TEXT NOT NULL,
            UNIQUE (root_id, path)
        )"""
    )
    db.execute(
        """CREATE TABLE images (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            folder_id INTEGER NOT NULL REFERENCES folders (id),
            name TEXT NOT NULL,
            folded TEXT NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            content_hash TEXT NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            format TEXT NOT NULL,
            orientation INTEGER NOT NULL,
            taken_at TEXT,
            camera TEXT,
            lens TEXT,
            latitude REAL,
            longitude REAL,
            title TEXT,
            caption TEXT,
            place TEXT,
            rating INTEGER,
            color TEXT,
            phash INTEGER,
            added_at TEXT NOT NULL,
            UNIQUE (folder_id, name)
        )"""
    )
    db.execute("CREATE INDEX images_folded ON images (folded)")
    db.execute("CREATE INDEX images_content_hash ON images (content_hash)")
    db.execute("CREATE INDEX images_taken_at ON images (taken_at, mtime_ns)")
    db.execute("CREATE INDEX images_camera ON images (camera)")
    db.execute("CREATE INDEX images_lens ON images (lens)")
    db.execute("CREATE INDEX images_format ON images (format)")
    db.execute("CREATE INDEX images_width_height ON images (width, height)")
    db.execute(
        "CREATE INDEX images_latitude_longitude ON images (latitude, longitude)"
        " WHERE latitude IS NOT NULL"
    )
    db.execute("CREATE INDEX images_rating ON images (rating) WHERE rating IS NOT NULL")
    db.execute(
        """CREATE TABLE keywords (
            image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            keyword TEXT NOT NULL,
            folded TEXT NOT NULL,
            PRIMARY KEY (image_id, position)
        ) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX keywords_folded ON keywords (folded)")
    db.execute(
        """CREATE TABLE embeddings (
            image_id INTEGER PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
            vector BLOB NOT NULL,
            version INTEGER NOT NULL
        )"""
    )
    db.execute("CREATE INDEX embeddings_version ON embeddings (version)")
    db.execute("CREATE TABLE removals (image_id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
    db.execute("CREATE INDEX removals_version ON removals (version)")


@catalog
def failures_and_runs(db: Connection) -> None:
    """Files that could not be read, and what each run did."""
    db.execute(
        """CREATE TABLE failures (
            root_id INTEGER NOT NULL REFERENCES roots (id),
            path TEXT NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            reason TEXT NOT NULL,
            failed_at TEXT NOT NULL,
            PRIMARY KEY (root_id, path)
        )"""
    )
    db.execute(
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            folders TEXT NOT NULL,
            total INTEGER,
            found INTEGER NOT NULL DEFAULT 0,
            added INTEGER NOT NULL DEFAULT 0,
            updated INTEGER NOT NULL DEFAULT 0,
            moved INTEGER NOT NULL DEFAULT 0,
            removed INTEGER NOT NULL DEFAULT 0,
            unchanged INTEGER NOT NULL DEFAULT 0,
            failed INTEGER NOT NULL DEFAULT 0,
            interrupted INTEGER NOT NULL DEFAULT 0
        )"""
    )


@catalog
def labels(db: Connection) -> None:
    """Labels assigned by ``sightline label``."""
    db.execute(
        """CREATE TABLE labels (
            image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            label TEXT NOT NULL,
            folded TEXT NOT NULL,
            score REAL NOT NULL,
            PRIMARY KEY (image_id, label)
        ) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX labels_folded ON labels (folded)")


@catalog
def words(db: Connection) -> None:
    """The full-text index."""
    db.execute(
        """CREATE VIRTUAL TABLE words USING fts5 (
            name, folders, title, caption, keywords, place, date,
            tokenize = 'unicode61 remove_diacritics 2'
        )"""
    )  # ``texts`` makes it again, ``text_words`` fills it


@catalog
def views(db: Connection) -> None:
    """Views for people who open the catalog with SQLite tools."""
    db.execute(
        """CREATE VIEW "pictures" AS
        SELECT images.id,
            rtrim(roots.path, '/') || '/' || iif(folders.path = '', '', folders.path || '/')
                || images.name AS path,
            roots.path AS root, folders.path AS folder, images.name,
            images.format, images.width, images.height,
            round(images.width * images.height / 1e6, 1) AS megapixels, images.size,
            datetime(images.mtime_ns / 1000000000, 'unixepoch') AS modified_at,
            images.taken_at, images.camera, images.lens, images.latitude, images.longitude,
            images.title, images.caption, images.place, images.rating, images.color,
            (SELECT group_concat(keyword, ', ') FROM keywords WHERE image_id = images.id)
                AS keywords,
            (SELECT group_concat(label, ', ') FROM labels WHERE image_id = images.id) AS labels,
            images.added_at
        FROM images
        JOIN folders ON folders.id = images.folder_id
        JOIN roots ON roots.id = folders.root_id"""
    )
    db.execute(
        """CREATE VIEW "failed" AS
        SELECT rtrim(roots.path, '/') || '/' || failures.path AS path, failures.reason,
            failures.size, failures.failed_at
        FROM failures JOIN roots ON roots.id = failures.root_id"""
    )
    db.execute(
        """CREATE VIEW "pictures_per_folder" AS
        SELECT roots.path AS root, folders.path AS folder, count(*) AS pictures,
            min(images.taken_at) AS first_taken, max(images.taken_at) AS last_taken
        FROM images
        JOIN folders ON folders.id = images.folder_id
        JOIN roots ON roots.id = folders.root_id
        GROUP BY folders.id"""
    )
    db.execute(
        """CREATE VIEW "pictures_per_month" AS
        SELECT substr(taken_at, 1, 7) AS month, count(*) AS pictures
        FROM images GROUP BY month"""
    )
    db.execute(
        """CREATE VIEW "pictures_per_camera" AS
        SELECT camera, lens, count(*) AS pictures, min(taken_at) AS first_taken,
            max(taken_at) AS last_taken
        FROM images GROUP BY camera, lens"""
    )
    db.execute(
        """CREATE VIEW "pictures_per_keyword" AS
        SELECT keyword, count(*) AS pictures FROM keywords GROUP BY folded"""
    )
    db.execute(
        """CREATE VIEW "pictures_per_label" AS
        SELECT label, count(*) AS pictures, round(avg(score), 4) AS mean_score
        FROM labels GROUP BY folded"""
    )


@catalog
def web_addresses(db: Connection) -> None:
    """The web address of an image that was imported with a set of embeddings."""
    db.execute("ALTER TABLE images ADD COLUMN url TEXT")
    db.execute("DROP VIEW pictures")
    db.execute(
        """CREATE VIEW "pictures" AS
        SELECT images.id,
            rtrim(roots.path, '/') || '/' || iif(folders.path = '', '', folders.path || '/')
                || images.name AS path,
            roots.path AS root, folders.path AS folder, images.name,
            images.format, images.width, images.height,
            round(images.width * images.height / 1e6, 1) AS megapixels, images.size,
            datetime(images.mtime_ns / 1000000000, 'unixepoch') AS modified_at,
            images.taken_at, images.camera, images.lens, images.latitude, images.longitude,
            images.title, images.caption, images.place, images.rating, images.color,
            (SELECT group_concat(keyword, ', ') FROM keywords WHERE image_id = images.id)
                AS keywords,
            (SELECT group_concat(label, ', ') FROM labels WHERE image_id = images.id) AS labels,
            images.url, images.added_at
        FROM images
        JOIN folders ON folders.id = images.folder_id
        JOIN roots ON roots.id = folders.root_id"""
    )


@catalog
def decoded_files(db: Connection) -> None:
    """Which files this library has decoded, and which roots the user named."""
    db.execute("ALTER TABLE roots ADD COLUMN named INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE images ADD COLUMN decoded INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE images SET decoded = 1 WHERE mtime_ns <> 0")
    db.execute(
        "UPDATE roots SET named = 1 WHERE id IN (SELECT folders.root_id FROM images"
        " JOIN folders ON folders.id = images.folder_id WHERE images.decoded = 1)"
    )


@catalog
def people(db: Connection) -> None:
    """The people in each image, and from which state of which files its metadata was read."""
    db.execute("ALTER TABLE images ADD COLUMN metadata_stamp INTEGER NOT NULL DEFAULT 0")
    db.execute(
        """CREATE TABLE people (
            image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            person TEXT NOT NULL,
            folded TEXT NOT NULL,
            PRIMARY KEY (image_id, position)
        ) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX people_folded ON people (folded)")
    db.execute("DROP TABLE words")
    db.execute(
        """CREATE VIRTUAL TABLE words USING fts5 (
            name, folders, title, caption, keywords, people, place, date,
            tokenize = 'unicode61 remove_diacritics 2'
        )"""
    )
    db.execute(
        """CREATE VIEW "pictures_per_person" AS
        SELECT person, count(*) AS pictures FROM people GROUP BY folded"""
    )
    db.execute("DROP VIEW pictures")
    db.execute(
        """CREATE VIEW "pictures" AS
        SELECT images.id,
            rtrim(roots.path, '/') || '/' || iif(folders.path = '', '', folders.path || '/')
                || images.name AS path,
            roots.path AS root, folders.path AS folder, images.name,
            images.format, images.width, images.height,
            round(images.width * images.height / 1e6, 1) AS megapixels, images.size,
            datetime(images.mtime_ns / 1000000000, 'unixepoch') AS modified_at,
            images.taken_at, images.camera, images.lens, images.latitude, images.longitude,
            images.title, images.caption, images.place, images.rating, images.color,
            (SELECT group_concat(keyword, ', ') FROM keywords WHERE image_id = images.id)
                AS keywords,
            (SELECT group_concat(person, ', ') FROM people WHERE image_id = images.id) AS people,
            (SELECT group_concat(label, ', ') FROM labels WHERE image_id = images.id) AS labels,
            images.url, images.added_at
        FROM images
        JOIN folders ON folders.id = images.folder_id
        JOIN roots ON roots.id = folders.root_id"""
    )


@catalog
def locations(db: Connection) -> None:
    """The places at images' positions."""
    db.execute(
        """CREATE TABLE locations (
            id INTEGER PRIMARY KEY,
            country_code TEXT NOT NULL,
            country TEXT NOT NULL,
            region TEXT NOT NULL,
            city TEXT NOT NULL,
            district TEXT NOT NULL,
            UNIQUE (country_code, region, city, district)
        )"""
    )
    db.execute("ALTER TABLE images ADD COLUMN location_id INTEGER")
    db.execute(
        "CREATE INDEX images_location_id ON images (location_id) WHERE location_id IS NOT NULL"
    )
    db.execute(
        "CREATE INDEX images_unlocated ON images (id)"
        " WHERE latitude IS NOT NULL AND location_id IS NULL"
    )
    db.execute("CREATE INDEX images_place ON images (place) WHERE place IS NOT NULL")
    db.execute(
        """CREATE VIEW "pictures_per_place" AS
        SELECT country, region, city, count(*) AS pictures
        FROM images JOIN locations ON locations.id = images.location_id
        GROUP BY country, region, city"""
    )
    db.execute("DROP VIEW pictures")
    db.execute(
        """CREATE VIEW "pictures" AS
        SELECT images.id,
            rtrim(roots.path, '/') || '/' || iif(folders.path = '', '', folders.path || '/')
                || images.name AS path,
            roots.path AS root, folders.path AS folder, images.name,
            images.format, images.width, images.height,
            round(images.width * images.height / 1e6, 1) AS megapixels, images.size,
            datetime(images.mtime_ns / 1000000000, 'unixepoch') AS modified_at,
            images.taken_at, images.camera, images.lens, images.latitude, images.longitude,
            images.title, images.caption, images.place, locations.city, locations.region,
            locations.country, images.rating, images.color,
            (SELECT group_concat(keyword, ', ') FROM keywords WHERE image_id = images.id)
                AS keywords,
            (SELECT group_concat(person, ', ') FROM people WHERE image_id = images.id) AS people,
            (SELECT group_concat(label, ', ') FROM labels WHERE image_id = images.id) AS labels,
            images.url, images.added_at
        FROM images
        JOIN folders ON folders.id = images.folder_id
        JOIN roots ON roots.id = folders.root_id
        LEFT JOIN locations ON locations.id = images.location_id"""
    )


@catalog
def kept(db: Connection) -> None:
    """Saved searches, the favourites and collections."""
    db.execute(
        """CREATE TABLE saved_searches (
            name TEXT NOT NULL,
            folded TEXT PRIMARY KEY,
            query TEXT NOT NULL,
            saved_at TEXT NOT NULL
        )"""
    )
    db.execute(
        """CREATE TABLE collections (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            folded TEXT NOT NULL UNIQUE,
            created_at TEXT NOT NULL
        )"""
    )
    db.execute(
        """CREATE TABLE collection_images (
            collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
            content TEXT NOT NULL,
            position INTEGER NOT NULL,
            added_at TEXT NOT NULL,
            PRIMARY KEY (collection_id, content)
        ) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX collection_images_content ON collection_images (content)")
    db.execute(
        "INSERT INTO collections (id, name, folded, created_at)"
        " VALUES (1, 'Favourites', 'favourites', strftime('%Y-%m-%dT%H:%M:%S', 'now'))"
    )


@catalog
def unknown_mtimes(db: Connection) -> None:
    """The mtime of a file that was never read is NULL; 0 is a date that a file can have."""
    # SQLite changes no column while a view names it or does not work, which users' views may do.
    views = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall()
    for name, _ in views:
        quoted = name.replace('"', '""')
        db.execute(f'DROP VIEW "{quoted}"')
    db.execute("ALTER TABLE images ADD COLUMN mtime INTEGER")
    db.execute("UPDATE images SET mtime = nullif(mtime_ns, 0)")
    db.execute("DROP INDEX images_taken_at")
    db.execute("ALTER TABLE images DROP COLUMN mtime_ns")
    db.execute("ALTER TABLE images RENAME COLUMN mtime TO mtime_ns")
    db.execute("CREATE INDEX images_taken_at ON images (taken_at, mtime_ns)")
    db.execute("ALTER TABLE failures ADD COLUMN mtime INTEGER")
    db.execute("UPDATE failures SET mtime = nullif(mtime_ns, 0)")
    db.execute("ALTER TABLE failures DROP COLUMN mtime_ns")
    db.execute("ALTER TABLE failures RENAME COLUMN mtime TO mtime_ns")
    for _, sql in views:
        db.execute(sql)


@catalog
def changed_files(db: Connection) -> None:
    """What shows a change that keeps size and mtime; a hash of what the model was shown."""
    db.execute("ALTER TABLE images ADD COLUMN ctime_ns INTEGER")
    db.execute("ALTER TABLE images ADD COLUMN inode INTEGER")
    db.execute("ALTER TABLE images ADD COLUMN pixels_hash TEXT")
    db.execute("ALTER TABLE failures ADD COLUMN ctime_ns INTEGER")


@catalog
def date_sources(db: Connection) -> None:
    """Where an image's date is from."""
    db.execute("ALTER TABLE images ADD COLUMN taken_from TEXT")


@catalog
def texts(db: Connection) -> None:
    """Text that was read in images."""
    db.execute(
        """CREATE TABLE texts (
            image_id INTEGER PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
            text TEXT NOT NULL,
            confidence REAL,
            lines TEXT NOT NULL,
            engine TEXT NOT NULL,
            read_at TEXT NOT NULL
        )"""
    )
    db.execute("DROP TABLE words")
    db.execute(
        """CREATE VIRTUAL TABLE words USING fts5 (
            name, folders, title, caption, keywords, people, place, date, text,
            tokenize = 'unicode61 remove_diacritics 2'
        )"""
    )  # ``text_words`` fills it


@catalog
def text_words(db: Connection) -> None:
    """The words that were read in images."""
    db.execute(
        """CREATE TABLE text_words (
            word TEXT PRIMARY KEY,
            images INTEGER NOT NULL,
            reversed TEXT NOT NULL
        ) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX text_words_reversed ON text_words (reversed)")
    db.execute("CREATE INDEX texts_written ON texts (image_id) WHERE text <> ''")
    full_text.fill(db)


@catalog
def filters_within_dates(db: Connection) -> None:
    """An index that alone answers a period with a camera, a format, a folder, a place or a shape:
    without it SQLite looked up the row of each image of the period, 18 ms for a month of a
    million."""
    db.execute(
        "CREATE INDEX images_within_dates ON images"
        " (taken_at, camera, format, folder_id, location_id, width, height)"
    )


@thumbnails
def thumbnail_blobs(db: Connection) -> None:
    """One WebP per image."""
    db.execute("CREATE TABLE thumbnails (image_id INTEGER PRIMARY KEY, webp BLOB NOT NULL)")


@new_embeddings
def embeddings_by_another_model(db: Connection) -> None:
    """One embedding per image, and the model."""
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    db.execute(
        """CREATE TABLE new_embeddings (
            image_id INTEGER PRIMARY KEY,
            version INTEGER NOT NULL,
            pixels_hash TEXT,
            vector BLOB NOT NULL
        )"""
    )

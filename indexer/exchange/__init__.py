"""Exchange: embeddings in and out as parquet, npy and JSON lines."""

from sightline.indexer.exchange.export_set import Format, write_set
from sightline.indexer.exchange.formats import FORMATS, EmbeddingSet, open_set
from sightline.indexer.exchange.import_set import ImportReport, import_set

__all__ = [
    "FORMATS", "EmbeddingSet", "Format", "ImportReport", "import_set", "open_set", "write_set",
]  # fmt: skip

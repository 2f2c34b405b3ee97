"""Exchange: embeddings in and out as parquet, npy and JSON lines."""

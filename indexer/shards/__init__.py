"""Shards: embedding on a Ray cluster, and importing what it wrote."""

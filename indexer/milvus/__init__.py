"""Milvus: a library whose images and vectors are held by Milvus."""

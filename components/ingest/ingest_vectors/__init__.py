"""The `ingest_vectors` component."""

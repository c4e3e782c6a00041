"""The `ingest_table` component."""

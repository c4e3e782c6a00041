"""The `ingest_kuairand` component."""

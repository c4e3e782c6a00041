"""The `ingest_household` component."""

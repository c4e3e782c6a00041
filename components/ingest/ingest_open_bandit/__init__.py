"""The `ingest_open_bandit` component."""

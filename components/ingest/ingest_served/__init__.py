"""The `ingest_served` component."""

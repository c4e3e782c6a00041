"""The `ingest_movielens` component."""

"""What is live and why? MLflow versions, the promotion gate, the ledger and the served model."""

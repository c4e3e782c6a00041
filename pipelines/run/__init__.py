"""How does a plan run? Airflow in this process or beside it, and what one task does."""

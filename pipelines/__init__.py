"""How does a YAML file become a checked plan and an Airflow DAG? The pipeline language and its CLI."""

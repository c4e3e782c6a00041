"""What of Rankmill does Airflow load as plugins? This folder may be its folder of plugins."""

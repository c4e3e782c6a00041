"""Airflow DAG of pipelines/movielens_searched.yaml, written by `rankmill stubs --write`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipelines.run.airflow_dag import dag_of_stub

dag = dag_of_stub(__file__)

"""Conditions over the columns of a row, in pipelines and in feature definitions: parsed as data, compared exactly."""

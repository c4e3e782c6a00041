"""What is a registered version made of, and how is MLflow asked about it?"""

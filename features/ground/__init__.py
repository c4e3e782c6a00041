"""What does everything stand on? Errors in one sentence, files written whole, YAML with positions."""

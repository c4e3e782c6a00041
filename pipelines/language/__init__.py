"""What may a pipeline say, and what does it mean? YAML in, a checked plan out."""

"""What does a service keep of what it saw? Segments of answered rows and of feedback."""

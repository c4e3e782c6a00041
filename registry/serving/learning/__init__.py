"""How does a service learn from its own answers? Labels of closed rows, five-minute slots beside the base memory."""

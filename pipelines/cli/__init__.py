"""What can be typed? One file per group of commands."""

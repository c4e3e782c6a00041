"""What becomes of what a graph says? Curves that calibrate it, what it is worth, and what multiplies that."""

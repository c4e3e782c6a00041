"""What is answered to raw rows, why, and which of all items? The answer itself is composed in `answer` alone."""

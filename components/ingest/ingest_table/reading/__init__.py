"""From a pattern to the rows of its files: which they are, how each is read in little memory."""

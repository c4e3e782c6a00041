"""Does a well-formed file make sense? One function per rule, one sentence per mistake."""

"""Which rankers exist? Pure modules: tensors in, logits out, no files, no loops, no trackers."""

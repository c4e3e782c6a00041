"""What is a feature, and what does a training row mean? The Feast repository, data contracts and the encoder."""

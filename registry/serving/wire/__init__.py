"""What may be said to a service? Its file, the protocol of questions and answers, and which version is meant."""

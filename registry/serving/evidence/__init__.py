"""What does a model bring along to be checked by? Its golden rows, and what it saw and said when it was judged."""

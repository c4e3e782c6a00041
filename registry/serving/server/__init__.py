"""How does a model answer over HTTP? One ASGI app on the Open Inference Protocol, which follows the champion."""

#!/bin/sh
# The command line over the tree of the image, which is no installed package.
exec python -c 'from pipelines.cli.main import main; main()' "$@"

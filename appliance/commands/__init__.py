"""The sub-commands of `dermstation` that need nothing above this package."""

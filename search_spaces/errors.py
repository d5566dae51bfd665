"""The one error that `search_spaces` raises for a user to read."""


class SpaceError(ValueError):
    """A search space is unknown, cannot be built, or is not one that can be searched."""

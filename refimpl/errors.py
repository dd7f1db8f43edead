"""The errors that refimpl raises beyond ValueError and TypeError."""


class CheckpointError(Exception):
    """A checkpoint file is missing, broken, or does not hold what its config says."""


class MissingExtra(ImportError):  # noqa: N818 (a published name)
    """An optional dependency is not installed; the message holds the pip line."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'refimpl[{extra}]'")

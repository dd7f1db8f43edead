"""The figures of docs/parity.md, each measured by one module of this package."""

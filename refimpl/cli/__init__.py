"""The command line: the doors of the package from a shell, one file for each command.

Exit codes: 0 it held (or was done), 1 it did not hold, 2 it could not be run. Results go to
standard output, progress and errors to standard error; on a pipe there is no progress.
"""

from __future__ import annotations

import typer

from refimpl.cli.bench import bench
from refimpl.cli.compare import compare
from refimpl.cli.convert import convert
from refimpl.cli.diagnose import diagnose
from refimpl.cli.fill_mask import fill_mask
from refimpl.cli.golden import golden
from refimpl.cli.inspect import inspect
from refimpl.cli.program import WithProgram
from refimpl.cli.tokenize import tokenize
from refimpl.cli.trace import export, trace
from refimpl.cli.validate import validate
from refimpl.cli.verify import verify

app = typer.Typer(
    help="The XLM family in explicit array code, verified against the originals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("verify", cls=WithProgram)(verify)
app.command("trace")(trace)
app.command("export")(export)
app.command("compare")(compare)
app.command("diagnose")(diagnose)
app.command("golden")(golden)
app.command("fill-mask")(fill_mask)
app.command("tokenize")(tokenize)
app.command("inspect")(inspect)
app.command("convert")(convert)
app.command("validate")(validate)
app.command("bench")(bench)


def main() -> None:
    """Run the command line."""
    app()

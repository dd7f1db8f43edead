"""What the site's pages need beside Markdown: above all the docstrings on the API page, and the
notebooks as pages.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"

# ":func:`load`" comes out as ":func:<code>load</code>", a doctest's ">>> " as three quotes in one
# another, and the stars of "(B, P*Q), (B, P*Q)" as emphasis.
ROLE = re.compile(r":(?:func|class|meth|mod|data):(<code>)(?:~|refimpl\.)?")
DOCTEST = re.compile(r"(?:<blockquote>\s*){3}<p>(.*?)</p>\s*(?:</blockquote>\s*){3}", re.DOTALL)
STARS = re.compile(r"(?<=[A-Z])<em>([^<]*)</em>")

CELL = re.compile(r"<td.*?</td>", re.DOTALL)
CODE = re.compile(r"<code>[^<]*</code>")


def on_files(files, config):
    """Add each executed notebook as a page, its figures as files beside it."""
    from mkdocs.structure.files import File  # here: the tests of this file do without both
    from nbconvert import MarkdownExporter

    exporter = MarkdownExporter(
        template_name="notebook", extra_template_basedirs=[str(HERE / "templates")]
    )
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, resources = exporter.from_filename(
            str(notebook), {"unique_key": f"{notebook.stem}_figures"}
        )
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, figure in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=figure))
    return files


def on_page_content(html, **_):
    """Show docstrings as they are meant; let long names in tables break behind their joints."""
    html = STARS.sub(r"*\1*", ROLE.sub(r"\1", html))
    html = DOCTEST.sub(
        lambda lines: f"<pre><code>&gt;&gt;&gt; {plain(lines[1])}</code></pre>", html
    )
    return CELL.sub(lambda cell: CODE.sub(breakable, cell[0]), html)


def plain(text):
    """Show what looks like tags, such as <mask>, as it is written."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def breakable(code):
    """Allow a line break behind the joints of a name: "_", "." and "/"."""
    return re.sub(r"(?<=\w)[_.](?=\w)|(?<=[\w}])/(?=\w)", r"\g<0><wbr>", code[0])

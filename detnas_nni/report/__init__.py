"""`detnas report`: what a search has found, as one page with figures, during the search or after it.

The parts, from the journal to the page: `searches` (which search, which published nets), `data` and
`audited` (numbers), `training_curves` and `comparison` (numbers with their figure), `figures` and
`architecture_drawing` (matplotlib), `exhibits` (figures with their captions), `style` and `page` (HTML, by
`page.html.j2`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.config.run_folder import REPORT, report_folder


def write_report(config: Config, *, name: str, compare: Sequence[Path] = (), out: Path | None = None) -> Path:
    """Write the report of a config's search and return the path of its page.

    The same inputs give the same bytes. Each file is replaced atomically, the page last; figures of an
    earlier report that this one does not have are removed.

    Args:
        config: the search's config.
        name: the config's file, as the user named it.
        compare: configs or folders of other searches.
        out: the folder; `RUN_DIR/report` if None.

    Raises:
        EvaluationError: a search has evaluated nothing yet.
        JournalError: a journal is damaged.
        ArchitectureError: a candidate, or a results.json, does not belong to the space, or is damaged.
        AuditError: an audit.json is damaged.
        UsageError: `compare` names something that is not a search.
    """
    from detnas_nni.report.searches import of_config, to_compare

    search = of_config(config, name)  # before matplotlib, which is slow to import
    others = [to_compare(path) for path in compare]

    from detnas_nni.report.exhibits import NAMES, exhibits
    from detnas_nni.report.page import page
    from detnas_nni.report.style import look, to_png, to_svg
    from detnas_nni.util.files import replace_file, write_text

    folder = out or report_folder(config.run_dir)
    with look():
        shown = exhibits(config, search, others)
        svgs = {e.name: to_svg(e.figure, e.name) for e in shown if e.figure is not None}
        pngs = {e.name: to_png(e.figure) for e in shown if e.figure is not None}
    text = page(config, search, shown, svgs)
    for figure, svg in svgs.items():
        write_text(folder / f"{figure}.svg", svg)
        replace_file(folder / f"{figure}.png", lambda path, png=pngs[figure]: path.write_bytes(png))
    for figure in set(NAMES) - set(svgs):
        for ending in ("svg", "png"):
            (folder / f"{figure}.{ending}").unlink(missing_ok=True)
    write_text(folder / REPORT, text)
    return folder / REPORT

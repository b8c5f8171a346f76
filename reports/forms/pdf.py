"""A page of HTML as PDF, laid out by WeasyPrint: nothing is fetched, and the same page gives the same bytes.

Needs the extra `report`, and Pango, which is no Python package.
"""

import contextlib
import io
import sys
import warnings
from typing import Any

from agent.errors import SettingsError

GENERATOR = "gputally"
PACKAGES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core"
"""What Debian and Ubuntu call the libraries, and a font."""


def to_pdf(html: str) -> bytes:
    """Lay out a page for print: A4 unless it says otherwise, tagged, its headings as bookmarks.

    Pictures, style sheets and fonts are taken only from `data:` addresses; all others are left out. Raises
    SettingsError where WeasyPrint or Pango is missing, with what to install.
    """
    weasyprint = _weasyprint()
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",), allow_redirects=False)
    document = weasyprint.HTML(string=html, url_fetcher=fetcher).render(pdf_tags=True)
    document.metadata.generator = GENERATOR
    made: bytes = document.write_pdf(pdf_tags=True)
    return made


def _weasyprint() -> Any:  # noqa: ANN401  it has no types
    said = io.StringIO()  # it prints advice of its own where Pango is missing
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore", DeprecationWarning)
            import weasyprint  # type: ignore[import-untyped]  # noqa: PLC0415  heavy, and not everywhere
    except ImportError as error:
        raise SettingsError(
            f"a PDF needs WeasyPrint ({error}): install it beside gputally with "
            f"{sys.executable} -m pip install 'weasyprint>=68'"
        ) from error
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(
            f"WeasyPrint does not find Pango ({reason}): install it, on Debian and Ubuntu with "
            f"apt install {PACKAGES}"
        ) from error
    return weasyprint

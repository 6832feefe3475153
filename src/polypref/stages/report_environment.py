"""Where every page is made: templates in which whatever came from a model or a file is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polypref.stages import report_tables as tables

if TYPE_CHECKING:
    import jinja2


def environment() -> jinja2.Environment:
    """The templates' environment; texts lose their control characters on the way."""
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return value if isinstance(value, Markup) or not isinstance(value, str) else tables.clean(value)

    return jinja2.Environment(
        loader=jinja2.PackageLoader("polypref.stages", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )

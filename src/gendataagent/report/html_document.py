"""The frame of every page: head, inline style sheet, navigation; nothing is loaded from outside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from gendataagent.report.markup import esc

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def palette() -> str:
    """Return the CSS variables of the colours, for a light and a dark theme."""
    return own_file("palette.css")


def document(
    *,
    title: str,
    header: str,
    body: str,
    navigation: Sequence[tuple[str, str]],
    footer: str,
    banner: str = "",
    style: str = "",
    policy: str = _POLICY,
    script: str = "",
) -> str:
    """Return a complete page, which works offline and without scripts unless `policy` allows them.

    Args:
        title: plain text; all other parts are HTML.
        navigation: anchor and title of each section; those missing in `body` are left out.
        style: additional CSS.
        policy: the content security policy.
        script: address of a script.
    """
    links = "".join(
        f'<a href="#{anchor}">{text}</a>'
        for anchor, text in navigation
        if f'<section id="{anchor}"' in body
    )
    navigation_bar = f'<nav aria-label="Sections of this page">{links}</nav>' if links else ""
    loaded = f'<script src="{esc(script)}" defer></script>\n' if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{esc(title)} · GenDataAgent</title>\n"
        f"<style>\n{palette()}{own_file('style.css')}{style}</style>\n{loaded}</head>\n<body>\n"
        f"{banner}<header>{header}</header>{navigation_bar}\n<main>{body}</main>\n"
        f"<footer>{footer}</footer>\n</body>\n</html>\n"
    )


def own_file(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return resources.files("gendataagent.report").joinpath(name).read_text("utf-8")

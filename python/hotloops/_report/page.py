"""One self-contained HTML page: style, tables and pictures inside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_CSS = """
:root{color-scheme:light dark;--ink:#1f2733;--faint:#5b6675;--line:#dfe4ea;--paper:#ffffff;
--ground:#f4f6f8;--brand:#b3410e}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--faint:#9aa5b4;--line:#303947;
--paper:#171c24;--ground:#0f131a;--brand:#ff9d5c}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);line-height:1.55;
font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif}
main{max-width:1220px;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem}
p,li{max-width:72ch}
.lead{font-size:1.1rem;color:var(--faint);margin-top:0}
a{color:var(--brand)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em}
pre{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:1rem;
overflow-x:auto}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.5rem .9rem;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
table>:first-child>tr:first-child>*{border-top:0}
thead th{color:var(--faint);font-weight:600}
th:first-child,td:first-child{text-align:left}
tbody th{font-weight:400}
tr.strong td,tr.strong th{font-weight:650}
.pictures{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr));
align-items:start}
figure{margin:0;background:var(--paper);border:1px solid var(--line);border-radius:10px;
padding:.8rem}
figure svg{display:block;width:100%;height:auto}
figcaption{color:var(--faint);font-size:.92rem;padding:.4rem .4rem .2rem;max-width:72ch}
footer{margin-top:3rem;color:var(--faint);font-size:.9rem}
"""


def table(rows: Sequence[Sequence[str]], *, strong: Sequence[int] = ()) -> str:
    """Return an HTML table: the first row is the head, unless empty; the first column has names."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0] if any(rows[0]))
    body = ""
    for number, row in enumerate(rows[1:], start=1):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        css = ' class="strong"' if number in strong else ""
        body += f'<tr{css}><th scope="row">{escape(row[0])}</th>{cells}</tr>'
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def runtime_table(runtime: Mapping[str, object]) -> str:
    """Return what `runtime_info` found, as a table."""
    rows = [["", ""]]
    for name, value in runtime.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}={item}" for key, item in value.items()) or "no overrides"
        rows.append([name, str(value)])
    return table(rows)


def figures(pictures: Sequence[tuple[str, str]]) -> str:
    """Return pictures side by side; each is (svg, caption)."""
    items = "".join(
        f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for svg, caption in pictures
    )
    return f'<div class="pictures">{items}</div>'


def document(title: str, lead: str, sections: Sequence[tuple[str, str]], footer: str) -> str:
    """Return the whole page; each section is (heading, html)."""
    body = "".join(f"<h2>{escape(heading)}</h2>{html}" for heading, html in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{body}'
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, making its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

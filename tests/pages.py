"""What the documentation's pages hold: code to run, links, and marks of what cannot run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# The first line of a block that cannot run here; the rest of the line is the reason.
NOT_RUN = "# not run here: "
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page in Markdown.

    Attributes
    ----------
    path : Path
    text : str
    """

    path: Path
    text: str

    @property
    def name(self):
        return self.path.relative_to(ROOT).as_posix()

    def blocks(self, language):
        """Texts of the fences of a language, in order."""
        return [code for found, code in FENCE.findall(self.text) if found == language]

    def languages(self):
        return {language for language, _ in FENCE.findall(self.text)}

    def links(self):
        """Targets within the repository: (path, anchor)."""
        prose = FENCE.sub("", self.text)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = target.partition("#")
                yield path, anchor

    def anchors(self):
        """What headings are called in links, as code hosts and MyST call them."""
        headings = re.findall(r"^#+ (.+)$", FENCE.sub("", self.text), flags=re.MULTILINE)
        return {
            re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
            for heading in headings
        }


def page(path):
    return Page(path, path.read_text(encoding="utf-8"))


PAGES = {p.name: p for p in map(page, [ROOT / "README.md", *sorted(DOCS.glob("*.md"))])}

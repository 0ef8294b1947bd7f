"""The words of docs/glossary.md: none that it refuses stands in a name or in a docstring of the product."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
SOURCES = sorted(path for directory in ("engine", "cli") for path in (ROOT / directory).rglob("*.py"))


def _rows() -> list[list[str]]:
    """Return the rows of the tables: word, meaning, words that do not stand for it."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in GLOSSARY.splitlines() if "|" in line
    ]
    return [row for row in rows if len(row) == 3 and row[0] != "word" and set(row[0]) != {"-"}]


REFUSED = {word for row in _rows() for word in re.findall(r"`([^`]+)`", row[2])}


def _names(tree: ast.AST) -> set[str]:
    """Return every name that a module gives or uses."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case _:
                pass
    return found


def _docstrings(tree: ast.AST) -> str:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented))


def test_glossary_is_read():
    """The tables have words, and words that are refused."""
    assert len(_rows()) > 40
    assert {"Writer", "whole or nothing", "absences"} <= REFUSED


def test_words_are_defined_once():
    """No word has two meanings, and none that is refused is one of the words."""
    words = [word for row in _rows() for word in row[0].split(", ")]
    assert len(words) == len(set(words))
    assert not REFUSED & set(words)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_refused_words_are_not_used(path):
    """A module has no refused word in its name, in the names that it gives and uses, or in its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {part for name in {path.stem, *_names(tree)} for part in (name, *name.strip("_").split("_"))}
    assert not words & REFUSED
    text = _docstrings(tree)
    assert not [word for word in REFUSED if re.search(rf"\b{re.escape(word)}\b", text)]

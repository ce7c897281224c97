"""A link that leads nowhere is found; what only looks like one is not."""

from __future__ import annotations

import pytest

from support.links import anchors, broken


@pytest.fixture
def page(tmp_path):
    """A page beside another one with the headings ``The bus: why`` and ``crossfade worker``."""
    (tmp_path / "other.md").write_text("# The bus: why\n\n## `crossfade worker`\n\n```console\n# no heading\n```\n")

    def page(text: str):
        path = tmp_path / "page.md"
        path.write_text(text)
        return path

    return page


@pytest.mark.parametrize(
    "text",
    [
        "[a](gone.md)",
        "![a](gone.png)",
        "[a](other.md#gone)",
        "[a](#gone)",
        "[a](other.md#no-heading)",
        "[a][b]\n\n[b]: gone.md",
        '[a](gone.md "title")',
    ],
)
def test_a_dead_link_is_found(page, text):
    """Files, pictures, headings, and links by reference are all followed."""
    assert len(broken(page(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md)",
        "[a](other.md#the-bus-why)",
        "[a](other.md#crossfade-worker)",
        "# Here\n\n[a](#here)",
        "[a](https://example.com/gone)",
        "`[a](gone.md)`",
        "```python\n[a](gone.md)\n```",
    ],
)
def test_a_live_link_passes(page, text):
    """Existing targets pass; the web and code are not followed."""
    assert broken(page(text)) == []


def test_anchors_are_made_as_code_hosts_make_them(page):
    """Lower case, punctuation gone, spaces to dashes."""
    assert anchors(page("# The bus: why\n").with_name("other.md")) == {"the-bus-why", "crossfade-worker"}

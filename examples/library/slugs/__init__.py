"""Titles as parts of web addresses."""

import re
import unicodedata


def slug(title: str) -> str:
    """Lower-case ASCII words joined by dashes; empty where nothing of the title can be spelled so."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return "-".join(re.findall(r"[a-z0-9]+", plain.lower()))

"""Names that others chose, made harmless: short, and nothing in them but what prints."""


def printable(text: str, longest: int) -> str:
    """Shorten a text, with ? for what does not print, such as marks that turn the writing round."""
    return "".join(one if one.isprintable() else "?" for one in text[:longest])

"""Texts that stores, encoders and parsers trip over, and how line protocol carries them."""

from hypothesis import strategies as st

LONG = "x" * 10_000
DIFFICULT = (
    "two words",
    " both ends ",
    "a,b",
    "k=v",
    'say "hi"',
    '"',
    "it's",
    "DOMAIN\\user",
    "C:\\folder\\",
    "\\\\server\\share",
    "a\\,b",
    "a\\ b",
    "a\\=b",
    "\\",
    "\\\\",
    "line\nbreak",
    "\n",
    "clinging\\\nbreak",
    "carriage\r\nreturn",
    "tab\tstop",
    "nul\0byte",
    "rub\x7fout",
    "# no comment",
    "naïve café, 東京",
    "😀 👩\u200d🔬",
    "line\u2028separator",
    "not a character \udcff",
    "\\\udcff",
    "b f=1 1\nm,k=v f=2 2",
    "b f=1i,g=2",
    "{}%s$HOME;--",
    LONG,
    "é" * 5_000,
)

WIDE = {
    "\\": "\N{FULLWIDTH REVERSE SOLIDUS}",
    '"': "\N{FULLWIDTH QUOTATION MARK}",
    "#": "\N{FULLWIDTH NUMBER SIGN}",
}
PICTURES = "␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟"

texts = st.text(
    st.one_of(st.sampled_from('\\,= \n\r\t"#\0a0_'), st.characters(), st.characters(categories=["Cs"])),
    min_size=1,
    max_size=20,
) | st.sampled_from(DIFFICULT)
"""Any text, with many of the characters that mean something."""
values = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53).map(float)


def unicode_of(text: str) -> str:
    """Give the text with halves of surrogate pairs spelled out."""
    return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one for one in text)


def alike(text: str, besides: str = "") -> str:
    """Give the text as line protocol carries it; `besides` are other characters that are replaced."""
    carried = ""
    whole = unicode_of(text)
    for one, following in zip(whole, [*whole[1:], ""], strict=True):
        if one == "\x7f":
            carried += "␡"
        elif one < " ":
            carried += PICTURES[ord(one)]
        elif (one == "\\" and following in ("", "\\", ",", "=", " ")) or one in besides:
            carried += WIDE[one]
        else:
            carried += one
    return carried

"""Texts that are cheap to send and expensive to search: repetitions of the syntax that is searched."""

import random
from collections.abc import Iterator

_OPENERS = (
    *("<", "<|", "< |", "<<", "[", "[ ", "[1,", "{", "{}", '{"', '{"a":', "(", "()", "(1,"),
    *("\\boxed{", "\\fbox{", "\\text{", "\\frac{", "\\frac{1}{", "\\sqrt{", "\\begin{", "\\("),
    *("\\[", "^{", "_{", "$", "$$", "```", "```\n", "```python\n", "~~~\n", "<think>", "<answer>"),
    *("</answer>", "<b>", "<tool_call>", "data: ", '"', "'", '"""', '    """\n', "**", "*", "_"),
)
_SPACES = (" ", "\n", "\r\n", "\r", "\t", "  \n", " \t", "\u00a0", "\u2028", "\n\n", "> ", "> \n")
_MARKS = (
    *("|", "| ", "}", "]", ")", ">", "=", "x = ", "-", "--", "- ", "\u2014", "#", "# ", "/", "\\"),
    *(
        "\\\\",
        "\\n",
        "!",
        "!!",
        "?",
        ". ",
        ".",
        "...",
        ", ",
        ",",
        ":",
        ";",
        "%",
        "&",
        "~",
        "\u3002",
    ),
    *("^", "\u0301", "\u00bd", "\u00e9", "\u4e00", "\U0001f600", "\\,", "{,}", "\ue000", "\x00"),
)
_NUMBERS = (
    *("7", "0", "1,", "1.", "1/", "1-", "1 ", "12,345,", "1 000 ", "1 1/2 ", "1e9", "1e", "x10^"),
    *("5%", "1 and 2, ", "1_000", "1'000", "1:"),
)
_WORDS = (
    *("a", "aB", "a ", "word ", "Word", "a.", "a,", "a-", "Ab.", "A) ", "(A) ", "A. ", "A or B, "),
    *("not ", "and ", "or ", "is ", "the ", "of ", "per ", "the correct option ", "not A "),
    *("Answer: ", "Answer:\n", "**Answer:** ", "The answer is ", "The answer is A.", "answer "),
    *("the answer is not ", "So 7 + 5 = 12. ", "m/s ", "per hour ", "5 apples and ", "$5 "),
    *("x", "def ", "def f():\n", "    x\n", "import a\n", "@a\n", ">>> ", "REVISED SOLUTION\n"),
    *(
        "10.0.0.1:",
        "10.",
        "http://",
        "http://a@",
        "a.b.",
        "::",
        "a:",
        "sk-",
        "eyJa.",
        "bearer ",
        "port ",
    ),
    *("secret key/1", "secret key", "s", "%20", "&#0", "\\u0073", "localhost", "ip-1-1-1-1", "[::"),
    *("- item\n", "1. x\n", "A) a\n", '"a":', "a: b\n", "lambda: ", "x = 1\n", '{"answer": "1"}\n'),
)
SEEDS = tuple(dict.fromkeys((*_OPENERS, *_SPACES, *_MARKS, *_NUMBERS, *_WORDS)))

END = "\x01"
"""Ends a text with a character that no pattern expects, so that an attempt fails at its very end."""


def shaped(seed: str, size: int) -> str:
    """Return `size` characters: repetitions of the seed after a letter, ended by `END`."""
    return (seed * (size // len(seed) + 1))[: size - 1] + END


def bare(seed: str, size: int) -> str:
    """Return `size` characters: repetitions of the seed alone."""
    return (seed * (size // len(seed) + 1))[:size]


def mixed(number: int, size: int) -> str:
    """Return `size` characters: runs of a few seeds in a random order that `number` determines."""
    source = random.Random(number)
    few = source.sample(SEEDS, k=source.randint(2, 5))
    parts: list[str] = []
    length = 0
    while length < size:
        parts.append(source.choice(few) * source.choice((1, 1, 1, 2, 8, 60)))
        length += len(parts[-1])
    return "".join(parts)[:size]


def mixtures(count: int, *, first: int = 0) -> Iterator[int]:
    """Return the numbers of `count` mixtures."""
    yield from range(first, first + count)

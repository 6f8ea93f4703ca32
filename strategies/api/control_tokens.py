"""Control tokens of chat templates: patterns of the known model families, and literals of a tokenizer.

A pattern matches the empty text after the first character of a token and looks ahead at the rest. Therefore a token is
found at every position, also inside another one. Every attempt ends at the next opener, so that the time is linear in
the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

BREAKER = "\u00b7"
"""Character that breaks a token, after its first character. No pattern matches across it."""

MAX_TOKENS = 1000
"""Most literal tokens of one tokenizer."""

_SHORTEST, _LONGEST = 3, 64

_NAMES = r"""
    unk | pad | bos | eos | cls | sep | [es]op | eo[dt] | mask (?::\d++)? | role
  | (?:bos|eos|eop|mask|unk|pad|sep|cls)_token
  | think | thinking | thought | reasoning | answer | response
  | tools | tool_calls? | tool_response | tool_result | tool_output | toolcall | available_tools
  | functions | function_calls | arg_key | arg_value | code_interpreter
  | system | user | assistant | observation | _(?:system|user|bot|start|end) | \u7528\u6237
  | (?:start|end)_of_(?:turn|image|audio|video) | (?:begin|beginning|end)_of_(?:sentence|text|image)
  | image | img_context | (?:image|audio)_soft_token | im_[a-z]{2,12}+
  | fim[_-](?:prefix|middle|suffix|pad) | file_sep | repo_?name | gh_stars | empty_output
  | issue_(?:start|comment|closed) | jupyter_(?:start|text|code|output|script)
  | commit_(?:before|msg|message|after)
  | (?:extra|extra_id|unused|reserved|reserved_token|reserved_special_token|special|special_token|sentinel|placeholder)
      [_:]?\d++
  | (?:seed|minimax|steptml):[a-z_]{1,64}+ | longcat_[a-z_]{1,64}+
  | (?-i:PRE|SUF|MID|EOT)
"""
_BRACKETED = r"""
    inst | system_prompt | tool_calls | tool_results | tool_content | available_tools | think
  | multimodal | (?:start|end)_header_id | (?:unused|unused_token_|extra_id_|control_)\d++
  | (?-i:MODEL_SETTINGS|CALL_ID|ARGS|AUDIO|BEGIN_AUDIO|NEXT_AUDIO_TEXT|REPEAT_AUDIO_TEXT|TRANSCRIBE|STREAMING_PAD
      |STREAMING_WORD|IMG|IMG_BREAK|IMG_END|PREFIX|MIDDLE|SUFFIX|USER|BOT|BOS|EOS|EOT|CLS|SEP|MASK|PAD|UNK
      |gMASK|sMASK)
"""

_FIRST = "<[]>|/\uff5c\u25c1"
_KNOWN = rf"""
    (?<=<)(?= [^<>{BREAKER}]{{1,90}}+ > )(?:                      # fail early: there is a closing bracket
        (?= /?s > )
      | (?= \s*+ [|\uff5c]++ (?!\w[|\uff5c])                     # <|im_start|>, <|eot_id|>, also with full-width bars
            (?: [^\s<>|\uff5c]{{1,64}}+ [|\uff5c]++ )++ \s*+ > )
      | (?= [|\uff5c] [a-z][\w-]{{2,40}}+ > )                    # <|turn>
      | (?= [a-z][\w-]{{2,40}}+ [|\uff5c] > )                    # <turn|>
      | (?= \s*+ (?:/\s*+)? (?=[a-z_\u7528]) (?:{_NAMES}) \s*+ > )
      | (?= \[ (?:begin|end|fim|plhd) [^\s\[\]]{{1,60}}+ \] > )
    )
  | (?<=<)(?= < \s*+ (?:/\s*+)? sys \s*+ >> )
  | (?<=\[)(?= [^\[\]{BREAKER}]{{1,90}}+ \] )(?:
        (?= \s*+ (?:/\s*+)? (?=[a-z]) (?:{_BRACKETED}) \s*+ \] )
      | (?= [|\uff5c] /? [a-z][a-z_]{{1,32}}+ [|\uff5c] \] )       # [|assistant|]
    )
  | (?<=\[)(?= e~\[ )
  | (?<=\])(?= ~b\] | ~!b\[ | ![a-z]~\[ | <\] [^<>\[\]\n{BREAKER}]{{1,32}}+ \[>\[ )
  | (?<=>)(?= > (?-i:[A-Z][A-Z_0-9]{{3,24}}+) << )
  | (?<=[|\uff5c])(?= dsml[|\uff5c] )
  | (?<=\u25c1)(?= /?[a-z_]{{2,32}}+\u25b7 )
  | (?<=/)(?= no_?think )
"""


@lru_cache(maxsize=64)
def token_pattern(tokens: frozenset[str] = frozenset()) -> re.Pattern[str]:
    """Return the pattern of all known tokens and of the literals `tokens`.

    A match is the empty text after the first character of a token.
    """
    by_first: dict[str, list[str]] = {}
    for token in tokens:
        by_first.setdefault(token[0], []).append(token[1:])
    literals = "".join(
        f"|(?-i:(?<={re.escape(first)})(?={_trie_pattern(rest)}))"
        for first, rest in sorted(by_first.items())
    )
    firsts = "".join(sorted({*_FIRST, *by_first}))
    pattern = f"(?<=[{re.escape(firsts)}])(?:{_KNOWN}{literals})"
    return re.compile(pattern, re.VERBOSE | re.IGNORECASE)


def tokens_beyond_known(tokens: Iterable[str]) -> frozenset[str]:
    """Return the tokens of a tokenizer that the patterns do not match, for `token_pattern`.

    Left out are tokens that ordinary text has: shorter than 3 characters, one character repeated, or beginning with a
    letter, a digit or white space. Also left out are those longer than 64 characters or with a breaker, and all but the
    first 1,000 in alphabetical order.
    """
    known = token_pattern()
    found = {each for each in tokens if _is_distinctive(each) and not known.search(each)}
    return frozenset(sorted(found)[:MAX_TOKENS])


def _is_distinctive(token: str) -> bool:
    return (
        _SHORTEST <= len(token) <= _LONGEST
        and BREAKER not in token
        and len(set(token)) > 1
        and unicodedata.category(token[0])[0] in "PS"
    )


def _trie_pattern(words: Iterable[str]) -> str:
    """Return a pattern of all the words that compares each character of a text once."""
    root: dict[str, Any] = {}
    for word in words:
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _pattern_of(root)


def _pattern_of(node: dict[str, Any]) -> str:
    if (
        "" in node
    ):  # a word ends here: longer ones begin at the same character and need no match of their own
        return ""
    branches = []
    for character, below in sorted(node.items()):
        chain, rest = character, below
        while len(rest) == 1 and "" not in rest:
            [(only, rest)] = rest.items()
            chain += only
        branches.append(re.escape(chain) + _pattern_of(rest))
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"

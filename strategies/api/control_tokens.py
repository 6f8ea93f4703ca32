"""Control tokens of chat templates: patterns of the known model families, and literals of a tokenizer.

A pattern matches the first character of a token and looks ahead at the rest. Therefore a token is found at every
position, also inside another one. Every attempt ends at the next opener, so that the time is linear in the text.
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
    answer   available_tools   arg_key   arg_value   assistant   audio_soft_token
    bos   bos_token   begin_of_(?:sentence|text|image)   beginning_of_(?:sentence|text|image)
    cls   cls_token   code_interpreter   commit_(?:before|msg|message|after)
    eos   eop   eod   eot   eos_token   eop_token   empty_output   end_of_(?:turn|image|audio|video|sentence|text)
    extra[_:]?\d++   extra_id[_:]?\d++
    functions   function_calls   fim[_-](?:prefix|middle|suffix|pad)   file_sep
    gh_stars   image   img_context   image_soft_token   im_[a-z]{2,12}+   issue_(?:start|comment|closed)
    jupyter_(?:start|text|code|output|script)   longcat_[a-z_]{1,64}+
    mask(?::\d++)?   mask_token   minimax:[a-z_]{1,64}+
    observation   pad   pad_token   placeholder[_:]?\d++
    role   reasoning   response   repo_?name   reserved(?:_token|_special_token)?[_:]?\d++
    sep   sop   system   sep_token   start_of_(?:turn|image|audio|video)   seed:[a-z_]{1,64}+   steptml:[a-z_]{1,64}+
    special(?:_token)?[_:]?\d++   sentinel[_:]?\d++
    think   thinking   thought   tools   tool_calls?   tool_response   tool_result   tool_output   toolcall
    unk   unk_token   user   unused[_:]?\d++   _(?:system|user|bot|start|end)   \u7528\u6237
"""
"""Names in angle brackets, in any case."""

_BRACKETED = r"""
    available_tools   control_\d++   extra_id_\d++   end_header_id   inst   multimodal
    system_prompt   start_header_id   think   tool_calls   tool_results   tool_content   unused\d++   unused_token_\d++
"""
"""Names in square brackets, in any case."""


def _by_first_letter(names: str) -> str:
    """Return a pattern of the names that compares the first letter once."""
    letters: dict[str, list[str]] = {}
    for name in names.split():
        first = name[: name.startswith("\\u") * 5 + 1]
        letters.setdefault(first, []).append(name.removeprefix(first))
    return "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in letters.items())


_KNOWN = rf"""
    <(?:(?= [^<>{BREAKER}]{{1,90}}+ > )(?:                        # fail early: there is a closing bracket
        (?= /?s > )
      | (?= \s*+ [|\uff5c]++ (?!\w[|\uff5c])                     # <|im_start|>, <|eot_id|>, also with full-width bars
            (?: [^\s<>|\uff5c]{{1,64}}+ [|\uff5c]++ )++ \s*+ > )
      | (?= [|\uff5c] [a-z][\w-]{{2,40}}+ > )                    # <|turn>
      | (?= [a-z][\w-]{{2,40}}+ [|\uff5c] > )                    # <turn|>
      | (?= \s*+ (?:/\s*+)? (?=[a-z_\u7528]\w) (?:{_by_first_letter(_NAMES)}) \s*+ > )
      | (?= /?(?-i:PRE|SUF|MID|EOT) > )
      | (?= \[ (?:begin|end|fim|plhd) [^\s\[\]]{{1,60}}+ \] > )
    ) | (?= < \s*+ (?:/\s*+)? sys \s*+ >> ))
  | \[(?:(?= [^\[\]{BREAKER}]{{1,90}}+ \] )(?:
        (?= \s*+ (?:/\s*+)? (?=[a-z]) (?:{_by_first_letter(_BRACKETED)}) \s*+ \] )
      | (?= \s*+ (?:/\s*+)? (?-i:
            MODEL_SETTINGS|CALL_ID|ARGS|AUDIO|BEGIN_AUDIO|NEXT_AUDIO_TEXT|REPEAT_AUDIO_TEXT|TRANSCRIBE|STREAMING_PAD
              |STREAMING_WORD|IMG|IMG_BREAK|IMG_END|PREFIX|MIDDLE|SUFFIX|USER|BOT|BOS|EOS|EOT|CLS|SEP|MASK|PAD|UNK
              |gMASK|sMASK
        ) \s*+ \] )
      | (?= [|\uff5c] /? [a-z][a-z_]{{1,32}}+ [|\uff5c] \] )       # [|assistant|]
    ) | (?= e~\[ ))
  | \](?= ~b\] | ~!b\[ | ![a-z]~\[ | <\] [^<>\[\]\n{BREAKER}]{{1,32}}+ \[>\[ )
  | >(?= > (?-i:[A-Z][A-Z_0-9]{{3,24}}+) << )
  | [|\uff5c](?= dsml[|\uff5c] )
  | \u25c1(?= /?[a-z_]{{2,32}}+\u25b7 )
  | /(?= no_?think )
"""


@lru_cache(maxsize=64)
def token_pattern(tokens: frozenset[str] = frozenset()) -> re.Pattern[str]:
    """Return the pattern of all known tokens and of the literals `tokens`.

    A match is the first character of a token, in a group.
    """
    by_first: dict[str, list[str]] = {}
    for token in tokens:
        by_first.setdefault(token[0], []).append(token[1:])
    literals = "".join(
        f"|(?-i:{re.escape(first)}(?={_trie_pattern(rest)}))"
        for first, rest in sorted(by_first.items())
    )
    return re.compile(f"({_KNOWN}{literals})", re.VERBOSE | re.IGNORECASE)


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

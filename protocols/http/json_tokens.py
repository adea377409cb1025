"""The tokens of JSON (RFC 8259) as regular expressions over bytes. All are possessive: they never go back. Pure."""

from __future__ import annotations

import re

BLANKS = rb"[ \t\n\r]*+"
BODY = rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'  # of a string, without quotes
NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
LITERAL = rb"true|false|null"

blanks = re.compile(BLANKS)
string_body = re.compile(BODY)
name_and_colon = re.compile(rb'("' + BODY + rb'")' + BLANKS + rb":" + BLANKS)
number = re.compile(NUMBER)
part_of_number = re.compile(rb"[-+0-9.eE]*+")
literal = re.compile(LITERAL)
part_of_escape = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3}+)?+")
begins_document = re.compile(rb" *+(?:[\[{\\]|\xef\xbb\xbf)")
spaces = re.compile(rb" *+")

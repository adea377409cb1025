"""The tokens of JSON (RFC 8259) as regular expressions over bytes. All are possessive: they never go back. Pure.

A possessive repetition of a group ends with OR_NOTHING. Python before 3.11.5 (Debian 12 has 3.11.2) goes on behind an
iteration that has failed half-way as if that half had matched; before it tries another alternative it goes back.
"""

from __future__ import annotations

import re

OR_NOTHING = rb"|(?!)"

BLANKS = rb"[ \t\n\r]*+"
BODY = rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+|(?!))*+'  # of a string, without quotes
NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++|(?!))?+(?:[eE][+-]?[0-9]++|(?!))?+"
LITERAL = rb"true|false|null"
# Inside a string: blanks, and what a document begins with that is written in it, each as it is or as an escape.
INNER_BLANKS = rb"(?: |\\[tnr]|\\u00(?:20|09|0[aAdD])|\\u[fF][eE][fF]{2}|\xef\xbb\xbf|(?!))*+"
INNER_BEGINNING = rb'(?:[\[{]|\\"|\\u00(?:22|5[bB]|7[bB]))'
LONGEST_ESCAPE = 6

blanks = re.compile(BLANKS)
string_body = re.compile(BODY)
number = re.compile(NUMBER)
part_of_number = re.compile(rb"[-+0-9.eE]*+")
literal = re.compile(LITERAL)
part_of_escape = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3}+)?+")
inner_blanks = re.compile(INNER_BLANKS)
begins_document = re.compile(INNER_BLANKS + INNER_BEGINNING)

"""The commands of a text as the grammar of tree-sitter-bash has them: the wide reading, for every form of bash.

The grammar knows more forms than the shells share and is lenient about where words end, so this reading alone never
makes a text resolved. It says which commands a text has when the narrow reading (`policy.shell.reading`) stops, and it
must agree with it when it does not. Nodes are taken by an allow-list; nothing here recurses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from policy.shell.names import names

# The grammar's recovery from errors takes time and memory that grow with the square of the text.
MAX_BROKEN_BYTES = 1024
MAX_NODES = 30_000

_BASH = Language(tree_sitter_bash.language())

_COMMANDS = frozenset(("command", "declaration_command", "unset_command", "test_command"))
_KNOWN = _COMMANDS | names("""
    program list pipeline negated_command redirected_statement subshell compound_statement
    if_statement elif_clause else_clause for_statement while_statement do_group case_statement case_item
    command_name word number string string_content raw_string concatenation regex extglob_pattern
    simple_expansion expansion variable_name special_variable_name command_substitution process_substitution
    arithmetic_expansion ansi_c_string translated_string brace_expression
    variable_assignment variable_assignments
    file_redirect file_descriptor heredoc_redirect heredoc_start heredoc_body heredoc_content heredoc_end
    herestring_redirect
    unary_expression binary_expression parenthesized_expression test_operator
    comment
    """)
_NOT_ARGUMENTS = frozenset(
    ("command_name", "variable_assignment", "file_redirect", "heredoc_redirect", "herestring_redirect")
)
# The grammar's scanner looks characters up in a table of C's library that ends at 255, and reads behind its end for
# others: a text with such a character may end the process. To every shell they are letters like others.
_ASCII = bytes(range(128)) + b"x" * 128
Span = tuple[int, int]


@dataclass(slots=True)
class TreeCommand:
    """A command: the places of its name and of its arguments. has_arguments: the tree has them all, in one row."""

    name: Span
    arguments: list[Span] = field(default_factory=list)
    has_arguments: bool = True


@dataclass(slots=True)
class TreeReading:
    """commands: by the place of their names. doubts: what is not well-formed or not on the list."""

    commands: dict[Span, TreeCommand] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def read_tree(data: bytes) -> TreeReading:
    """Read a text whose length the caller has bounded. Places are those in `data`."""
    reading = TreeReading()
    root = Parser(_BASH).parse(data.translate(_ASCII)).root_node
    if root.descendant_count > MAX_NODES:
        reading.doubts.append(f"it has more than {MAX_NODES} parts")
        return reading
    pending = [root]
    while pending:
        node = pending.pop()
        if node.is_error or node.is_missing:
            reading.doubts.append("it is not well-formed, or uses forms that only some shells know")
        elif node.is_named and node.type not in _KNOWN:
            reading.doubts.append(f"it has a form that not all shells know ({node.type.replace('_', ' ')})")
        if node.child_count:
            children = node.children
            if node.type in _COMMANDS:
                command = _command(node, children)
                reading.commands.setdefault(command.name, command)
            elif node.type == "redirected_statement" and children[0].type in _COMMANDS:
                _add_arguments_behind_redirections(reading, children)
            pending.extend(children)
    return reading


def _command(node: Node, children: list[Node]) -> TreeCommand:
    if node.type != "command":
        return TreeCommand(children[0].byte_range, [child.byte_range for child in children[1:]], False)
    command = TreeCommand(node.byte_range)
    for child in children:
        if child.type == "command_name":
            command.name = child.byte_range
        elif child.type not in _NOT_ARGUMENTS:
            command.arguments.append(child.byte_range)
    return command


def _add_arguments_behind_redirections(reading: TreeReading, children: list[Node]) -> None:
    """The grammar gives words behind a redirection to the redirection."""
    body = _command(children[0], children[0].children)
    for child in children[1:]:
        if child.type == "heredoc_redirect":
            body.has_arguments = False
        elif child.type == "file_redirect":
            targets = [part for part in child.named_children if part.type != "file_descriptor"]
            body.arguments += [part.byte_range for part in targets[1:]]
    reading.commands[body.name] = body

"""COPY: a relation or a query, to or from the client, a file or a program, and the shape of its data."""

from __future__ import annotations

from policy.facts import Output, Use
from policy.sql.definitions import Definitions
from policy.sql.lineage import OpenFields, output
from policy.sql.parse import Node
from policy.sql.refusal import SqlRefused, unknown_construct
from policy.sql.scope import Field, Item, Level
from policy.sql.state import CopyShape
from policy.sql.words import words

_OPTIONS = words("""
    convert_selectively default delimiter encoding escape force_not_null force_null force_quote format
    freeze header log_verbosity null on_error quote reject_limit
""")


class Copying(Definitions):
    """The walk over COPY."""

    def copy(self, body: Node) -> tuple[str, CopyShape | None]:
        """The command and, for the client's side of a COPY, the shape of the data."""
        is_in = bool(body.get("is_from"))
        command = self._copy_command(body, is_in)
        if "query" in body:
            fields = self.subquery(body["query"], None)
        else:
            fields = self._relation_columns(body, is_in)
        goes_to_client = command == "copy_to"
        if is_in:
            columns = tuple(output(entry) for entry in fields)
            for entry in fields:
                self.consume(entry.value, Use.ASSIGN)
        else:
            columns = self.leaves(fields, Use.OUTPUT if goes_to_client else Use.COPY)
        shape = copy_shape(
            body.get("options", []), is_in, None if isinstance(fields, OpenFields) else columns
        )
        return command, shape if goes_to_client or command == "copy_from" else None

    def _copy_command(self, body: Node, is_in: bool) -> str:
        direction = "copy_from" if is_in else "copy_to"
        self.collected.command(direction)
        if body.get("is_program"):
            self.collected.command("copy_program")
            return "copy_program"
        if "filename" in body:
            self.collected.command("copy_file")
            return "copy_file"
        return direction

    def _relation_columns(self, body: Node, is_in: bool) -> list[Field]:
        """The columns of COPY relation, in the order of its data; generated ones are not among them."""
        relation = dict(body["relation"])
        relation["inh"] = is_in  # COPY TO takes the rows of just this relation
        command = "copy_from" if is_in else "select"
        if not is_in:
            self.collected.command("select")
        item = self.relation_item(relation, command)
        level = Level()
        level.add(item)
        named = [name["String"].get("sval", "") for name in body.get("attlist", ())]
        fields: list[Field]
        if named:
            fields = [self._named_column(item, name) for name in named]
        else:
            written = [
                entry
                for entry in item.fields
                if entry.value.column is None or not entry.value.column.is_generated
            ]
            for entry in written:
                entry.read()
            fields = OpenFields(written) if item.is_open else written
        if "whereClause" in body:
            self.operand(body["whereClause"], level, Use.FILTER)
        return fields

    def _named_column(self, item: Item, name: str) -> Field:
        return Field(name, self._field_of(item, name))


def copy_shape(options: list[Node], is_in: bool, columns: tuple[Output, ...] | None) -> CopyShape:
    """CopyShape from the options of COPY. Raises SqlRefused for an option that is not known."""
    found: dict[str, Node] = {}
    for option in options:
        element = option["DefElem"]
        if element["defname"] not in _OPTIONS:
            raise unknown_construct(f"the COPY option {element['defname']}")
        found[element["defname"]] = element.get("arg", {})
    form = _text(found.get("format"), "text").lower()
    if form not in {"text", "csv", "binary"}:
        raise SqlRefused(f'COPY format "{form}" not recognized', "22023", is_servers_answer=True)
    is_csv = form == "csv"
    quote = _text(found.get("quote"), '"')
    return CopyShape(
        is_in=is_in,
        columns=columns,
        format=form,
        delimiter=_text(found.get("delimiter"), "," if is_csv else "\t"),
        null=_text(found.get("null"), "" if is_csv else "\\N"),
        header="header" in found and _text(found["header"], "true").lower() not in {"false", "off", "0"},
        quote=quote,
        escape=_text(found.get("escape"), quote),
        force_quote=_names(found.get("force_quote")),
        encoding=_text(found.get("encoding"), ""),
        default=_text(found["default"], "") if "default" in found else None,
    )


def _text(node: Node | None, default: str) -> str:
    if not node:
        return default
    for kind, body in node.items():
        match kind:
            case "String":
                return str(body.get("sval", ""))
            case "Integer":
                return str(body.get("ival", 0))
            case "Boolean":
                return "true" if body.get("boolval") else "false"
            case _:
                raise unknown_construct(f"{kind} as the value of a COPY option")
    return default


def _names(node: Node | None) -> tuple[str, ...]:
    if not node:
        return ()
    if "A_Star" in node:
        return ("*",)
    return tuple(str(part["String"]["sval"]) for part in node.get("List", {}).get("items", ()))

"""The `when` of a rule: an expression in CEL over the facts of one operation.

The expression is read and checked here (`tokens`, `syntax`, `checking`, `cost`), written anew for the binding
(`rendering`) and worked out by it (`condition`): what runs is what was checked. Called by `policy.sections` (faults)
and by who compiles rules. No I/O, no clock.
"""

from policy.conditions.condition import CompiledCondition, compile_condition

__all__ = ["CompiledCondition", "compile_condition"]

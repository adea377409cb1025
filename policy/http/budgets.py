"""The budgets that a subject's calls of models at a target count against. Called by the HTTP gates."""

from __future__ import annotations

from policy.document import PolicyDocument
from policy.facts import Subject, Target
from policy.llm.budget import Budget
from policy.view import view_of


def budgets_for(document: PolicyDocument, subject: Subject, target: Target) -> tuple[Budget, ...]:
    """In the document's order."""
    if not document.budgets:
        return ()
    roles = view_of(document, subject, target).roles
    return tuple(budget for budget in document.budgets if budget.applies(roles, target))

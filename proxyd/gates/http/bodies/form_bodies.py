"""Forms under masks (`application/x-www-form-urlencoded`): a field is masked by its name as a member would be.

`user[email]` and `user.email` are the field `email` of `user` as well as one of that whole name: what conceals most
applies. A name that holds the masked one among other words is taken for it. What has no kind becomes text: null leaves
an empty field.
"""

from __future__ import annotations

from collections import Counter

from policy.masking import MaskingError
from protocols.errors import RemoteProtocolError
from protocols.http.forms import decode_field, encode_field, readings
from proxyd.gates.http.bodies.detecting import ValueDetection, may_be_named
from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.bodies.plan import Plan


class FormBody:
    def __init__(self, plan: Plan) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        *fields, self._held = (self._held + data).split(b"&")
        if len(self._held) > self._plan.limits.held_bytes:
            raise BodyRefused(f"it holds a field longer than {self._plan.limits.held_bytes} bytes")
        return b"".join([field + b"&" for field in self._all_masked(fields)])

    def finish(self) -> bytes:
        return b"".join(self._all_masked([self._held]))

    def _all_masked(self, fields: list[bytes]) -> list[bytes]:
        if self._plan.has_paths or self._plan.detection is None:
            return list(map(self._masked, fields))
        return self._all_detected(fields, self._plan.detection)

    def _all_detected(self, fields: list[bytes], detection: ValueDetection) -> list[bytes]:
        """The same where no field is masked by its name: many are looked at in one go."""
        texts: list[str] = []
        for field in fields:
            try:
                name, value = decode_field(field)
            except RemoteProtocolError as fault:
                raise BodyRefused("it is a form that cannot be masked") from fault
            if not self._plan.is_name(name):
                raise BodyRefused("it is a form whose names are none")
            texts += (name, value)
        becomes = detection.all_replaced(texts, self.counts)
        if becomes is None:
            return list(map(self._masked, fields))
        masked: list[bytes] = []
        for field, name, value, shown, found in zip(
            fields, texts[::2], texts[1::2], becomes[::2], becomes[1::2], strict=True
        ):
            is_named = found == value and may_be_named(name, value)
            new = self._plan.detected(value, self.counts, name) if is_named else found
            masked.append(field if (shown, new) == (name, value) else encode_field(shown, new))
        return masked

    def _masked(self, field: bytes) -> bytes:
        if not field:
            return field
        try:
            name, value = decode_field(field)
            if not self._plan.is_name(name):
                raise BodyRefused("it is a form whose names are none")
            masked = self._plan.field(readings(name), value, self.counts, title=name)
        except (RemoteProtocolError, MaskingError) as fault:
            raise BodyRefused("it is a form that cannot be masked") from fault
        shown = self._plan.detected(name, self.counts)
        return field if (shown, masked) == (name, value) else encode_field(shown, masked)

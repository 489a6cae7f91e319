"""The audit of source code: what can be seen without running it."""

from dropkit.audit.static.files import audit_source, audit_text

__all__ = ["audit_source", "audit_text"]

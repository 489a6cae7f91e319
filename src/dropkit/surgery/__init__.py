"""Find, set and swap the dropout inside any module."""

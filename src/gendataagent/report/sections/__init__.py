"""The sections of the report page, in modules by topic; each function returns HTML."""
